"""What the `bivouac` command does not understand: one sentence, exit code 2, and still one document with --json."""

import json

import pytest

from bivouac.main import main


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["quote"], "Missing option '--model'"),
        (["quote", "--model", "CPU", "--nodes", "two"], "--nodes"),
        (["conquer"], "No such command 'conquer'"),
        (["quote", "--modle", "CPU"], "--modle"),
        (["--profile", "nobody", "balance"], "no profile 'nobody'"),
        (["--key", "/nowhere/key", "--identity", "acme", "--url", "nats://127.0.0.1:1", "balance"], "cannot be read"),
    ],
)
def test_what_is_not_understood_is_one_sentence_and_code_2(
    capsys: pytest.CaptureFixture[str], words: list[str], reason: str
) -> None:
    for as_json in (False, True):
        with pytest.raises(SystemExit) as ended:
            main([*words, *(["--json"] if as_json else [])])
        said = capsys.readouterr()
        assert ended.value.code == 2
        assert reason in said.err
        assert said.err.count("\n") == 1
        if as_json:
            assert json.loads(said.out)["error"]["reason"] == "usage"
        else:
            assert said.out == ""
