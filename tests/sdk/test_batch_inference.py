"""The example job on a real Ray of its own: every image is read once, and the files say what was printed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

JOB = Path(__file__).parent.parent.parent / "examples" / "batch_inference" / "infer.py"


@pytest.mark.slow
def test_the_job_reads_every_image_and_leaves_its_result(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow.parquet")
    home = tmp_path / "home"
    home.mkdir()
    settings = {"REPEAT": "2", "EPOCHS": "2", "BIVOUAC_RESULT": str(tmp_path / "result"), "RAY_AUTH_MODE": "disabled"}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    run = subprocess.run(
        [sys.executable, str(JOB)],
        env={**inherited, **settings, "HOME": str(home)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    lines = run.stdout.splitlines()
    shares = [float(line.split()[1]) for line in lines if line.startswith("progress ")]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    summary = json.loads((tmp_path / "result" / "summary.json").read_text())
    assert f"result: {json.dumps(summary)}" in lines
    rows = pyarrow.read_table(tmp_path / "result" / "predictions.parquet").to_pydict()
    assert rows["id"] == list(range(2 * 1797))
    right = sum(seen == truth for seen, truth in zip(rows["digit"], rows["truth"], strict=True))
    assert summary["accuracy"] == round(right / len(rows["id"]), 4)
    assert summary["accuracy_unseen"] > 0.7
    assert sum(summary["images_per_node"].values()) == summary["images"] == 2 * 1797
