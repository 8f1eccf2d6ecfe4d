"""Parsing of the command line: modes, files, lists, flags, errors and help."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra._internal.utils import get_args_parser
from hydra.errors import ConfigCompositionException
from tests.config.test_config import compose
from tests.conftest import Cli

from mprnet_lit import __version__, weights
from mprnet_lit.cli import command_line, usage
from mprnet_lit.cli.command_line import translate
from mprnet_lit.config.groups import file_keys, mode_keys, modes, owners, valid_keys
from mprnet_lit.config.messages import explain, quoted
from mprnet_lit.config.resolvers import register_resolvers
from mprnet_lit.images.reading import read_image, write_png
from mprnet_lit.models import MPRNet
from mprnet_lit.utils.errors import UserError

NAMES = (
    "photo.jpg", "my photo.jpg", " a .jpg", "a=b.jpg", "a,b.jpg", "photo (1).jpg", "[1].jpg",
    "{a}.jpg", "it's.jpg", 'say "hi".jpg', '\\".jpg', "ü.jpg", "#1.jpg", "${seed}.jpg", "$HOME.jpg",
    "back\\slash.jpg", "\\\\server\\share", "ends\\", "-dash.jpg", "--help.jpg", "~tilde.jpg",
    "007", "1e3", "2024", "true", "a:b.jpg", "100%.jpg", "new\nline.jpg", "*.jpg",
    "--", "a=1", "task",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (*NAMES, "b.png", "restore"):
        (tmp_path / name).write_bytes(b"")
    for name in ("noisy", "clean"):
        (tmp_path / name).mkdir()
    register_resolvers()
    return tmp_path


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("", ""),
        ("restore photo.jpg", 'mode=restore input="photo.jpg"'),
        ("mode=restore photo.jpg", 'mode=restore input="photo.jpg"'),
        ("photo.jpg", 'mode=restore input="photo.jpg"'),
        ("noisy output=x", 'output=x mode=restore input="noisy"'),
        ("missing.jpg", 'mode=restore input="missing.jpg"'),
        ("in/**/*.jpg", 'mode=restore input="in/**/*.jpg"'),
        ("restore ./restore", 'mode=restore input="./restore"'),
        ("restore photo.jpg seed=1 b.png", 'seed=1 mode=restore input=["photo.jpg","b.png"]'),
        ("restore -- --help.jpg", 'mode=restore input="--help.jpg"'),
        ("denoise photo.jpg", 'task=denoise mode=restore input="photo.jpg"'),
        ("restore deblur photo.jpg", 'mode=restore task=deblur input="photo.jpg"'),
        ("train deblur", "mode=train task=deblur"),
        ("train mode=train", "mode=train"),
        ("evaluate noisy clean", 'mode=evaluate input="noisy" evaluate.target="clean"'),
        ("benchmark model=tiny", "model=tiny mode=profile"),
        ("mode=benchmark", "mode=profile"),
        ("report noisy", 'mode=report input="noisy"'),
        ("convert a.pth b.ckpt", 'mode=convert weights="a.pth" output="b.ckpt"'),
        ("help", "--help"),
        ("help restore", "--help mode=restore"),
        ("restore -h", "-h mode=restore"),
        ("task=deblur -m model=tiny,small", "-m task=deblur model=tiny,small"),
        ("seed=1 --config-dir mine --cfg=job", "--config-dir mine --cfg=job seed=1"),
        ("--info task=deblur", "--info=all task=deblur"),
        ("task=deblur --info config", "--info=config task=deblur"),
        ("~callbacks.ema +a.b=1 ++seed=2", "~callbacks.ema +a.b=1 ++seed=2"),
        ("-sc query=bash", "-sc query=bash"),
        ("mode=restore input=photo.jpg,b.png", "mode=restore input=[photo.jpg,b.png]"),
        ("mode=restore input=ü.jpg,b.png", 'mode=restore input=["ü.jpg","b.png"]'),
        ("mode=restore input=[ü.jpg,b.png]", 'mode=restore input=["ü.jpg","b.png"]'),
        ("mode=restore input=[photo.jpg,b.png]", "mode=restore input=[photo.jpg,b.png]"),
        ("-m mode=restore input=photo.jpg,b.png", "-m mode=restore input=photo.jpg,b.png"),
        ("sweep=optuna input=photo.jpg,b.png", "sweep=optuna input=photo.jpg,b.png"),
        ("mode=restore input=~/b.png", 'mode=restore input="HOME/b.png"'),
        ("input=b.png output=größe weights=null", 'input=b.png output="größe" weights=null'),
        ("paths.runs=1e3 seed=007 resume=auto", 'paths.runs="1e3" seed=007 resume=auto'),
    ],
)
def test_arguments_are_translated_to_overrides_once(
    folder: Path, command: str, expected: str
) -> None:
    translated = translate(command.split())
    assert " ".join(translated) == expected.replace("HOME", str(folder))
    # Lightning starts further processes with the translated arguments.
    repeated = [*translated, 'hydra.run.dir="a b"']
    assert translate(repeated) == repeated


def test_file_name_with_spaces_is_one_argument(folder: Path) -> None:
    assert translate(["my photo.jpg", "output=my photo.jpg"]) == [
        "output=my photo.jpg", "mode=restore", 'input="my photo.jpg"',
    ]  # fmt: skip


def test_any_file_name_round_trips_through_the_parser(folder: Path) -> None:
    words = [name for name in NAMES if name != "--"]
    config = compose(*translate(["restore", *words, "--", "--"]))
    assert list(config.input) == [*words, "--"]
    overrides = [translate([f"{key}={n}"])[0] for key in ("input", "paths.hide") for n in NAMES]
    values = [override.partition("=")[2] for override in overrides] + [quoted(n) for n in NAMES]
    config = compose(*(f"+names.n{k}={value}" for k, value in enumerate(values)))
    assert list(config.names.values()) == [*NAMES] * 3


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("--mode restore", "type 'mode=restore' instead of --mode"),
        ("--input=photo.jpg", "type 'input=photo.jpg' instead of --input"),
        ("restore --self-ensemble true", "type 'inference.self_ensemble=true'"),
        ("--restore photo.jpg", "type 'mprnet_lit restore'"),
        ("--multrun", "did you mean '--multirun'?"),
        ("-o x", "there is no option -o: see 'mprnet_lit --help'"),
        ("--cfg", "--cfg needs a value"),
        ("task deblur", "type 'task=deblur'"),
        ("model tiny", "type 'model=tiny'"),
        ("deblur", "type 'mprnet_lit deblur PHOTO' to restore a photo, or 'mprnet_lit train task="),
        ("tiny", "type 'model=tiny'"),
        ("evaluate gopro", "type 'benchmark=gopro'"),
        ("evaluate noisy", "type 'mprnet_lit evaluate INPUT TARGET', or 'input=INPUT evaluate.t"),
        ("resotre photo.jpg", "did you mean 'restore'?"),
        ("foo", "'foo' is neither a mode, a file nor KEY=VALUE"),
        ("restore input= photo.jpg", "type 'input=photo.jpg'"),
        ("restore input = photo.jpg", "type 'input=photo.jpg'"),
        ("restore input =photo.jpg", "type 'input=photo.jpg'"),
        ("restore input=my photo.jpg", "'photo.jpg' and 'input=my' both set input"),
        ("restore photo.jpg mode=train", "'restore' and 'mode=train' both set mode"),
        ("denoise photo.jpg task=derain", "'denoise' and 'task=derain' both set task"),
        ("restore photo.jpg w.pth", "type 'weights=w.pth'"),
        ("serve photo.jpg", "mode=serve needs a key for the file"),
    ],
)
def test_unknown_arguments_raise_with_a_suggestion(
    folder: Path, command: str, sentence: str
) -> None:
    with pytest.raises(UserError) as refusal:
        translate(command.split())
    assert sentence in str(refusal.value) and "\n" not in str(refusal.value)


def test_all_flags_of_hydra_are_known() -> None:
    actions = [action for action in get_args_parser()._actions if action.option_strings]
    known = {
        0: command_line.PLAIN_FLAGS, None: command_line.VALUE_FLAGS, "?": command_line.INFO_FLAGS,
    }  # fmt: skip
    for count, flags in known.items():
        found = {flag for a in actions if a.nargs == count for flag in a.option_strings}
        assert found == set(flags)
    (info,) = (action for action in actions if action.nargs == "?")
    assert tuple(info.choices or ()) == command_line.INFOS


def test_suggestion_differs_from_the_input() -> None:
    for key in valid_keys():
        sentence = explain(ConfigCompositionException(f"Could not override '{key}'.\nKey ..."))
        assert sentence is not None and f"did you mean '{key}'" not in sentence
    assert owners("seed", "train") == {}
    assert owners("benchmark.protocol", "train") == {"mode": ["evaluate"]}
    assert "gopro" in owners("benchmark.protocol", "evaluate")["benchmark"]
    assert owners("benchmark.sets.rain100h.root", "evaluate") == {"benchmark": ["rain"]}


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (
            "benchmark.protocol=rgb mode=evaluate",
            "'benchmark.protocol' exists only with benchmark=dnd|gopro|hide",
        ),
        ("input=photo.jpg", "'input' exists only with mode=evaluate|report|restore: add one"),
        ("data.train.degraded=x", "'data.train.degraded' exists only with data=gopro|paired|"),
        (
            "tile=256 mode=restore input=x",
            "tile=256: this key is now inference.tile: type inference",
        ),
        ("memory_gb=4 mode=serve", "memory_gb=4: this key is now inference.memory_gb: type infer"),
        ("memory_gb=4 mode=benchmark", "memory_gb=4: this key is now profile.memory_gb: type prof"),
        ("data.on_error=skip mode=evaluate", "this key is now evaluate.on_error: type evaluate.on"),
        ("tile=256", "now inference.tile, and exists only with mode=evaluate|restore|serve"),
        (
            "+tile=256 mode=restore input=x",
            "tile: this key is now inference.tile; rename it in your",
        ),
        ("data.patch_size=8 mode=serve", "exists only with mode=export|prepare|profile|train"),
        (
            "trainer=cpu mode=restore input=x",
            "'trainer' exists only with mode=evaluate|profile|tra",
        ),
        ("mode=deblur", "did you mean 'mode=restore task=deblur'?"),
        (
            "mode=restor",
            "'restor' is not a mode: did you mean 'restore'? (modes: convert, evaluate",
        ),
        ("-m mode=train,evaluate", "'train,evaluate' is not a mode"),
        ("weights=a.pth,b.pth", "add -m to run the command with each of them, or type 'weights=["),
        ("hydra.job.chdir=true mode=report input=x", "hydra.job.chdir=true is not supported"),
        ("mode=report input=[a,b]", "input=['a', 'b'] must name one file or folder"),
        ("mode=restore output=[a,b] input=x", "output=['a', 'b'] must be text, or null"),
        ("restore weights=typo photo.jpg", "the weights file typo does not exist"),
    ],
)
def test_errors_that_depend_on_the_configuration(
    cli: Cli, folder: Path, command: str, sentence: str
) -> None:
    errors = cli(*command.split(), status=1).errors
    assert sentence in errors and errors.count("\n") == 1, errors


def test_several_photos_are_restored(cli: Cli, tmp_path: Path) -> None:
    model = MPRNet.from_size("tiny")
    model.start_from_identity()
    weights.save(model, tmp_path / "w.safetensors")
    photos = {}
    for number, name in enumerate(("a (1).png", "b=c.png", "in/ü.png")):
        photos[name] = np.full((8, 16, 3), 40 * number, np.uint8)
        write_png(tmp_path / name, photos[name])
    cli("restore", "a (1).png", "in", "weights=w.safetensors", "output=one", "b=c.png")
    cli("weights=w.safetensors", "input=a (1).png,in/ü.png,b=c.png", "output=two", "mode=restore")
    for name, photo in photos.items():
        for output in ("one", "two"):
            found = read_image(tmp_path / output / name.removeprefix("in/"))
            assert np.array_equal(found, photo), (output, name)
    errors = cli("restore", "in/ü.png", "b=c.png", "output=x.png", status=1).errors
    assert "output=x.png is one file" in errors
    write_png(tmp_path / "ü.png", photos["in/ü.png"])
    errors = cli("restore", "in/ü.png", "ü.png", "weights=w.safetensors", status=1).errors
    assert "in/ü.png" in errors and " ü.png" in errors.replace("and ", " ")


def test_help_fits_one_screen_and_lists_the_modes(cli: Cli) -> None:
    text = cli("--help").output
    lines = text.splitlines()
    assert len(lines) <= 40 and max(map(len, lines)) <= 100
    assert not re.search(r"(^|[\s,=])_[a-z]", text), "private options"
    assert set(usage.MODES) == set(modes())
    for name, mode in usage.MODES.items():
        assert re.search(rf"^  {name} +{re.escape(mode.purpose)}$", text, re.M)
        assert len(mode.main.split()) <= 10
        for key in mode.main.split():
            assert key in mode_keys(name), key
    assert cli("help").output == cli("-h", "seed=3").output == text
    assert cli("report", "--help", "--cfg=job").output == cli("help", "report").output
    assert cli("--version").output.startswith(f"mprnet_lit {__version__}, torch ")


@pytest.mark.parametrize("mode", modes())
def test_help_of_a_mode_lists_all_of_its_settings(mode: Any) -> None:
    tile = ["inference.tile=64"] if mode == "restore" else []
    text = usage.answer(["--help", f"mode={mode}", *tile])
    assert text is not None
    keys = set(re.findall(r"^  ([\w.]+)=", text, re.M))
    nodes = {key for key in valid_keys() if any(k.startswith(f"{key}.") for k in valid_keys())}
    own = {k for k in file_keys(mode) - nodes if k != "mode" and not k.startswith("hydra.")}
    assert own <= keys and not re.search(r"^  hydra\.|[\s,=]_\w+,", text, re.M)
    if mode == "restore":
        assert re.search(r"^  inference.tile=64 +Side of a tile in pixels. auto", text, re.M)
        assert re.search(r"^  task=denoise +of deblur, denoise, derain$", text, re.M)
        assert "trainer" not in text
    if mode == "train":
        assert re.search(
            r"^  data.holdout=0.1 +Fraction of the training images held out", text, re.M
        )
        assert {f"paths.{p}" for p in ("runs", "gopro", "dnd")} <= keys and "model" in keys


def test_help_includes_options_of_a_config_dir(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\ninference: {tile: 64}\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    arguments = ["--config-dir", str(tmp_path), "mode=restore", "experiment=mine", "-h"]
    assert "\n  inference.tile=64 " in (usage.answer(arguments) or "")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("tile: 64", "tile: this key is now inference.tile; rename it in your configuration file"),
        ("task: {loss: {eps: 1}}", "task.loss: this key is now loss; rename it in your"),
        ("mode: report", "a configuration file can't choose the mode (report): add mode=NAME"),
        ("defaults: [override /mode: x]", "a configuration file can't choose the mode: add mode=N"),
    ],
)
def test_experiment_file_with_an_old_key_or_a_mode_is_refused(
    cli: Cli, tmp_path: Path, text: str, sentence: str
) -> None:
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "x.yaml").write_text(f"# @package _global_\n{text}\n")
    assert sentence in cli("--config-dir", "mine", "experiment=x", status=1).errors
