"""What runs inside a sandbox in place of the `ray` command: the same, without its long waits and unused parts.

It runs as a script of its own, where only Ray is installed. With another release of Ray than the places below were read
in, it is the plain command.
"""

import importlib
import os
import socket
import sys
import time
import types
from typing import Any

_POLL_SECONDS = 0.05
_POLLS = 2400
# The parts of the dashboard that jobs and the state API need; each of the others is a process of 25 to 30 MB.
_MODULES = "--modules-to-load=JobHead,NodeHead,StateHead,EventHead"


def wait_for_head(words: list[str]) -> None:
    """A worker whose head does not answer yet would be told so by Ray only seconds after it does."""
    address = next((word.partition("=")[2] for word in words if word.startswith("--address=")), None)
    host, _, port = (address or "").rpartition(":")
    for _ in range(_POLLS if address else 0):
        try:
            socket.create_connection((host, int(port)), 5).close()
            return
        except OSError:
            time.sleep(_POLL_SECONDS)


def shorten_waits(node: Any, services: Any, utils: Any) -> None:
    """Ray asks for its head, and for itself among the members, every 1 to 2 s; here, every 50 ms."""
    quick = types.SimpleNamespace(**vars(time))
    quick.sleep = lambda seconds: time.sleep(min(seconds, _POLL_SECONDS))
    node.time = utils.time = quick
    get_node = services.get_node

    def get_node_once_there(address: str, node_id: str) -> Any:
        client, this = node.GcsClient(address=address), node.GetAllNodeInfoRequest.NodeSelector()
        this.node_id = bytes.fromhex(node_id)
        for _ in range(_POLLS):
            if client.get_all_node_info(timeout=30, node_selectors=[this]):
                break
            time.sleep(_POLL_SECONDS)
        return get_node(address, node_id)

    services.get_node = get_node_once_there


def leave_out_parts(node: Any, services: Any) -> None:
    """No Ray client server, and of the dashboard only what is used."""
    node.Node.start_ray_client_server = lambda self: None
    start_process = services.start_ray_process

    def start_with_fewer_modules(words: list[str], kind: str, **options: Any) -> Any:
        return start_process([*words, _MODULES] if kind == "dashboard" else words, kind, **options)

    services.start_ray_process = start_with_fewer_modules


def main() -> None:
    # Read once, at import; whatever Ray starts must not inherit it, since it sleeps as long as ever.
    os.environ["RAY_NUM_REDIS_GET_RETRIES"] = str(_POLLS)
    ray: Any = importlib.import_module("ray.scripts.scripts").ray
    del os.environ["RAY_NUM_REDIS_GET_RETRIES"]
    if ray.__version__.startswith("2.60."):
        shorten_waits(ray._private.node, ray._private.services, ray._private.utils)
        leave_out_parts(ray._private.node, ray._private.services)
    wait_for_head(sys.argv)
    sys.argv[0] = "ray"
    ray.scripts.scripts.main()


if __name__ == "__main__":
    main()
