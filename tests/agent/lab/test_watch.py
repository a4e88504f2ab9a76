"""What the files of a lab's manifests say, file by file."""

from pathlib import Path

from agent.lab.watch import Files
from agent.model.schema.objects import Key

SERVICE = """
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{ports: [{{port: 80}}]}}
"""


def test_a_file_that_is_being_written_holds_what_it_held(tmp_path: Path) -> None:
    """Else what its first half does not name would be deleted."""
    file = tmp_path / "a.yaml"
    one, two = (SERVICE.format(name=name) for name in ("one", "two"))
    file.write_text(f"{one}---{two}")
    files = Files([tmp_path])
    assert files.read() and not files.read()
    both = files.manifests.keys()
    assert both == {Key("Service", "default", "one"), Key("Service", "default", "two")}
    with file.open("w") as writer:
        writer.write(one)
        writer.flush()
        assert files.read() and files.manifests.keys() == both
        assert files.problems == {file: f"{file}: cannot be read: it is being written"}
    assert files.read() and files.manifests.keys() == {Key("Service", "default", "one")}
    assert files.problems == {} and not files.read()
    file.unlink()
    assert files.read() and not files.manifests
