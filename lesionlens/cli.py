"""`lesionlens …`: every command. What a command needs is imported when it runs, so that help is quick."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import click

from services.analysis.results import OLDEST_YEARS, YOUNGEST_YEARS

if TYPE_CHECKING:
    from lesionlens.classify import Pipeline
    from lesionlens.outcomes import Classified

#: A file's name need not be UTF-8: it is written byte for byte as it is, and so leads back to the file.
_NAMES_AS_THEY_ARE = "surrogateescape"

#: Exit status when not one of the files was an image that could be read.
NOTHING_READ = 1

#: Commands that live with what they do: name → (module, attribute, one line of help).
_ELSEWHERE = {
    "run": ("lesionlens.supervisor", "run_command", "Run the whole service on this machine."),
    "keys": ("lesionlens.keys", "keys_command", "Make, list and revoke API keys."),
    "backup": ("lesionlens.backup", "backup_command", "Write record and photographs to one file."),
    "restore": ("lesionlens.backup", "restore_command", "Bring a backup back into an empty service."),
    "dead-letters": ("lesionlens.dead_letters", "dead_letters_command", "List what failed on our side; try it again."),
    "audit": ("lesionlens.audit", "audit_command", "Read the audit log."),
    "feedback": ("lesionlens.feedback", "feedback_command", "Write photographs that may be used for training."),
    "models": ("lesionlens.models", "models_command", "Which versions of the networks answer; the way back."),
    "train": ("training.commands", "train", "Train the four networks and the stack."),
    "ablate": ("training.commands", "ablate", "Measure what each part of a recipe is worth."),
    "evaluate": ("training.commands", "evaluate", "Measure networks and stack on labelled images."),
    "calibrate": ("training.commands", "calibrate", "Measure which precisions networks may compute in."),
    "export": ("training.commands", "export", "Write SavedModels and stack.json."),
}


class _Commands(click.Group):
    """A group that imports a command's module only when that command is called."""

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted({*super().list_commands(context), *_ELSEWHERE})

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in _ELSEWHERE:
            return super().get_command(context, name)
        module, attribute, _ = _ELSEWHERE[name]
        try:
            command: click.Command = getattr(import_module(module), attribute)
        except ModuleNotFoundError as error:
            raise click.ClickException(
                f"`lesionlens {name}` needs the package {error.name}, which is not installed:"
                f" pip install -r requirements/{'training' if module.startswith('training') else 'run'}.txt"
            ) from error
        return command

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        own = {name: command.get_short_help_str(80) for name, command in self.commands.items()}
        elsewhere = {name: summary for name, (_, _, summary) in _ELSEWHERE.items()}
        with formatter.section("Commands"):
            formatter.write_dl(sorted({**own, **elsewhere}.items()))


_AGE = click.option(
    "--age",
    "age_years",
    type=click.IntRange(YOUNGEST_YEARS, OLDEST_YEARS),
    help="Of the person in all of the photographs, in years: on average the answers are better with it.",
)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """How likely is a photographed skin lesion malignant? Research software, not a medical device."""


@main.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--csv", "csv_path", type=click.Path(dir_okay=False, path_type=Path), help="Write the table here.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line instead of the table.")
@click.option(
    "--tta",
    "turns",
    type=click.Choice(["1", "2", "4", "8"]),
    help="Sides to look at each lesion from. Default: as many as the stack was made for.",
)
@_AGE
@click.option("--force", is_flag=True, help="Answer in spite of poor quality or an unfamiliar picture.")
@click.option("--models", "models_dir", type=click.Path(file_okay=False, path_type=Path), help="Default: MODELS_DIR.")
def classify(
    paths: tuple[Path, ...],
    csv_path: Path | None,
    *,
    as_json: bool,
    turns: str | None,
    age_years: int | None,
    force: bool,
    models_dir: Path | None,
) -> None:
    """Classify image files and folders in this process, with a row for every file."""
    from lesionlens.outcomes import image_files

    _refuse_unwritable(csv_path)
    files = list(image_files(paths))
    with _pipeline(models_dir, int(turns) if turns else None, age_years) as pipeline:
        _report((pipeline.classify(file, force=force) for file in files), len(files), csv_path, as_json=as_json)


@main.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--url", envvar="LESIONLENS_URL", default="http://localhost:8000", show_default=True, help="The service.")
@click.option(
    "--api-key",
    envvar="LESIONLENS_API_KEY",
    help="`ll_…`. Better given as LESIONLENS_API_KEY: others on this machine can see what stands in a command.",
)
@click.option("--csv", "csv_path", type=click.Path(dir_okay=False, path_type=Path), help="Write the table here.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line instead of the table.")
@click.option("--tta", "turns", type=click.Choice(["1", "2", "4", "8"]), help="Sides to look at each lesion from.")
@_AGE
@click.option("--force", is_flag=True, help="Answer in spite of poor quality.")
@click.option("--no-store", is_flag=True, help="Have each photograph deleted as soon as it is answered for.")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(min=1), default=300.0, show_default=True, help="Seconds for a file."
)
def submit(
    paths: tuple[Path, ...],
    url: str,
    api_key: str | None,
    csv_path: Path | None,
    *,
    as_json: bool,
    turns: str | None,
    age_years: int | None,
    force: bool,
    no_store: bool,
    timeout_s: float,
) -> None:
    """Send image files and folders to a running service, with the same rows as `classify`."""
    from lesionlens.client import Client, ClientError
    from lesionlens.outcomes import image_files
    from lesionlens.submit import Errand

    _refuse_unwritable(csv_path)
    try:
        client = Client(url, api_key)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--url") from error
    except ClientError as error:
        raise click.ClickException(str(error)) from error
    files = list(image_files(paths))
    try:
        with client:
            errand = Errand(client, force, not no_store, int(turns) if turns else None, age_years, timeout_s)
            _report(errand.run(files), len(files), csv_path, as_json=as_json)
    except ClientError as error:
        raise click.ClickException(str(error)) from error


def _report(outcomes: Iterable[Classified], length: int, csv_path: Path | None, *, as_json: bool) -> None:
    readable = _write(_with_progress(outcomes, length), csv_path, as_json=as_json)
    if not readable:
        click.echo("None of the files could be read as an image.", err=True)
        sys.exit(NOTHING_READ)


@contextmanager
def _pipeline(models_dir: Path | None, turns: int | None, age_years: int | None) -> Iterator[Pipeline]:
    from lesionlens.classify import Pipeline
    from lesionlens.refusals import refusals
    from services.analysis.settings import load_settings
    from services.stacker.out_of_distribution import familiarity_from
    from services.stacker.stacking import load_stack
    from serving.in_process import LocalEnsemble

    with refusals():
        settings = load_settings()
        folder = models_dir or settings.models_dir
        stack = load_stack(folder / "stack.json")
        if age_years is not None and stack.age is None:
            raise click.ClickException("These networks have not learnt what an age means. Leave --age out.")
        familiarity = familiarity_from(stack.out_of_distribution)
        calibrated = settings.calibrated_folder()
        with LocalEnsemble(folder, stack.versions, settings.precision, calibrated) as networks:
            yield Pipeline(networks, stack, familiarity, turns, age_years)


def _with_progress(outcomes: Iterable[Classified], length: int) -> Iterator[Classified]:
    with click.progressbar(outcomes, length=length, label="Looking", file=sys.stderr, show_pos=True) as progress:
        yield from progress


def _write(outcomes: Iterable[Classified], csv_path: Path | None, *, as_json: bool) -> bool:
    """Writes every outcome as it comes: the table to `csv_path`, JSON or else the table to standard output.

    Returns whether any file was readable.
    """
    readable = False
    with ExitStack() as files:
        writers: list[Callable[[Classified], Any]] = []
        if csv_path is not None:
            writers.append(_table(files.enter_context(_opened(csv_path, "w"))))
        if as_json:
            writers.append(_json_lines)
        if not writers:
            if isinstance(sys.stdout, io.TextIOWrapper):
                sys.stdout.reconfigure(errors=_NAMES_AS_THEY_ARE)
            writers.append(_table(sys.stdout))
        for outcome in outcomes:
            readable = readable or outcome.readable
            for write in writers:
                write(outcome)
    return readable


def _refuse_unwritable(csv_path: Path | None) -> None:
    """Before the networks are loaded or a photograph is sent; what stands in the file stays until there are rows."""
    if csv_path is not None:
        _opened(csv_path, "a").close()


def _opened(csv_path: Path, mode: Literal["a", "w"]) -> IO[str]:
    try:
        return csv_path.open(mode, newline="", encoding="utf-8", errors=_NAMES_AS_THEY_ARE)
    except OSError as error:
        raise click.ClickException(
            f"{csv_path} cannot be written: {error.strerror}. Name a file in a folder that exists and that you may"
            " write to."
        ) from error


def _table(stream: IO[str]) -> Callable[[Classified], Any]:
    from lesionlens.outcomes import COLUMNS, row

    table = csv.writer(stream)
    table.writerow(COLUMNS)
    return lambda outcome: table.writerow(row(outcome))


def _json_lines(outcome: Classified) -> None:
    from lesionlens.outcomes import document

    click.echo(json.dumps(document(outcome)))


@main.command("settings")
def settings_command() -> None:
    """List every setting with its default, as the README's table."""
    from services.analysis.settings import markdown_table

    click.echo(markdown_table())


if __name__ == "__main__":
    main()
