"""Compile the .proto files of this folder into the checked-in descriptor set: `python -m
serving.protos.compile`.

Needed only after a change to a .proto file; it is the one place that needs `grpcio-tools`. A unit test
recompiles and compares, so that the two cannot drift apart.
"""

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

PROTOS = Path(__file__).parent
DESCRIPTOR_SET = PROTOS / "wire.binpb"


def compile_protos(target: Path = DESCRIPTOR_SET) -> None:
    """Write the FileDescriptorSet of every .proto here, with the google.protobuf files they import, to
    `target`.

    Raises RuntimeError when the protocol compiler refuses a file; it has then said why on standard error.
    """
    well_known = Path(files("grpc_tools").joinpath("_proto"))  # type: ignore[arg-type]
    # In a process of its own: the compiler's native library crashes one that has loaded TensorFlow's.
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"--proto_path={PROTOS}",
            f"--proto_path={well_known}",
            "--include_imports",
            f"--descriptor_set_out={target}",
            *sorted(path.name for path in PROTOS.glob("*.proto")),
        ],
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"protoc refused the files in {PROTOS} (status {done.returncode})")


if __name__ == "__main__":
    compile_protos()
