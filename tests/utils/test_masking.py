"""Masking of credentials and home folders in settings, commands and messages."""

from typing import Any

import pytest

from mprnet_lit.utils.masking import (
    is_secret,
    mask,
    mask_home_folders,
    mask_text,
    may_contain_secrets,
)
from mprnet_lit.weights.training_config import training_settings


@pytest.mark.parametrize(
    "key",
    ["api_key", "logger.wandb.api_key", "WANDB_API_KEY", "password", "db_passwd", "accessToken",
     "client_secret", "Authorization", "credentials.user", "tokens.hf_token", "privateKey",
     "db.passwords"],
)  # fmt: skip
def test_secret_keys(key: str) -> None:
    assert is_secret(key)


@pytest.mark.parametrize("key", ["monitor", "keyboard", "tokenizer", "author", "passes", "lr"])
def test_other_keys(key: str) -> None:
    assert not is_secret(key)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("http://user:CANARY@host:80/a", "http://***@host:80/a"),
        ("u=postgresql+psycopg2://u:CAN@ARY@h/db?x=1", "u=postgresql+psycopg2://***@h/db?x=1"),
        ("https://CANARY@github.com/a", "https://***@github.com/a"),
        ("s=ftp://u:p/CANARY@h/x", "s=ftp://***@h/x"),
        ("http://host:8080/a", None),
        ("sqlite:///runs/sweeps/a@b/study.db", None),
        ("https://host/a?token=CANARY&x=1", "https://host/a?token=***&x=1"),
        ("+api_key=CANARY", "+api_key=***"),
        ("++a.password='CAN ARY, CANARY'", "++a.password=***"),
        ("+api_key=${oc.env:KEY}", None),
        ("+api_key=${oc.env:KEY,CANARY}", "+api_key=***"),
        ("logger.x={password: CANARY, lr: 1}", "logger.x={password: ***, lr: 1}"),
        ("x={key: CANARY}", "x={key: ***}"),
        ("refused: Authorization: Bearer CANARY.x", "refused: Authorization: ***"),
        ("python -m mprnet_lit +api_key=CANARY lr=1", "python -m mprnet_lit +api_key=*** lr=1"),
        ("x={token: [CANARY, CANARY]}", "x={token: ***"),
        ("x={secret: {a: CANARY, b: [CANARY]}, c: 1}", "x={secret: ***"),
        ("x={secret: [CANARY, CAN", "x={secret: ***"),
        ("refused: password='CAN ARY", "refused: password=***"),
        (r"password: 'it\'s CANARY'", "password: ***"),
        ("authorization: bearer CANARY", "authorization: ***"),
        (f"https://ci:{'CANARY' * 200}@host", "https://***@host"),
        ("there is no key: did you mean lr?", None),
        ("'foo' is neither a file nor KEY=VALUE: see", None),
        ("optimizer.lr=1e-3", None),
    ],
)
def test_masked_text(text: str, masked: str | None) -> None:
    assert mask_text(text) == (text if masked is None else masked)
    assert mask_text(mask_text(text)) == mask_text(text)
    assert masked is None or may_contain_secrets(text)


def test_masked_settings() -> None:
    settings = {
        "api_key": "CANARY",
        "pin": {"token": 1234, "keys": ["a"]},
        "credentials": {"user": "CANARY", "list": ["CANARY"]},
        "auth": None,
        "key": "${oc.env:KEY}",
        "uri": ["http://u:CANARY@h"],
        "lr": 1e-3,
        "token": True,
    }
    assert mask(settings) == {
        "api_key": "***",
        "pin": {"token": "***", "keys": ["a"]},
        "credentials": {"user": "***", "list": ["***"]},
        "auth": None,
        "key": "${oc.env:KEY}",
        "uri": ["http://***@h"],
        "lr": 1e-3,
        "token": True,
    }


LONG = ("a", "a=", "://", "key:'", "x://u:p/", "/home/", 'key="', "key=${", "1_b.-", "a@b:")


@pytest.mark.parametrize("text", LONG)
def test_masking_of_long_texts_is_fast(text: str) -> None:
    mask_home_folders(mask_text(text * 20_000))


def test_home_folders_of_all_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/srv/people/me")
    assert mask_home_folders("/srv/people/me/runs /srv/people/meme") == "~/runs /srv/people/meme"
    assert mask_home_folders("at /home/ann/x, /Users/bob/y or /root/z") == "at ~/x, ~/y or ~/z"
    assert mask_home_folders(r"C:\Users\ann\x") == r"~\x"
    assert mask_home_folders(r"'C:\\Users\\ann\\x'") == r"'~\\x'"
    assert (
        mask_home_folders("/data/home/x /rooted https://a/root")
        == "/data/home/x /rooted https://a/root"
    )
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # user without a home folder
    assert mask_home_folders("/home/ann/x ~/y") == "~/x ~/y"


def test_training_settings_of_a_weights_file() -> None:
    config: dict[str, Any] = {
        "seed": 3,
        "weights": "/home/ann/a.ckpt",
        "paths": {"runs": "/home/ann"},
        "logger": {"x": {"token": "CANARY"}},
        "task": {"name": "denoise", "note": "in /home/ann", "api_key": "CANARY", "who": "${A}"},
        "model": {"width": 16},
        "module": {"mixup_alpha": 0.5},
        "schedule": {"warmup_epochs": 1},
        "optimizer": {"_target_": "torch.optim.Adam", "lr": 1e-3, "betas": [0.9, 0.999]},
        "data": {
            "_target_": "mprnet_lit.data.RestorationDataModule",
            "train": {"_target_": "mprnet_lit.data.Photos", "folder": "photos", "split": "train"},
            "augmentation": {"transforms": [{"_target_": "albumentations.D4", "p": 1.0}]},
            "patch_size": 64,
            "where": ["/a", 1],
        },
        "callbacks": {"ema": {"decay": 0.9}, "best": {"dirpath": "x"}},
        "trainer": {"max_epochs": 2, "default_root_dir": "x", "devices": 4},
    }  # fmt: skip
    kept = training_settings(config)
    assert kept == {
        "seed": 3,
        "task": {"name": "denoise"},
        "model": {"width": 16},
        "module": {"mixup_alpha": 0.5},
        "schedule": {"warmup_epochs": 1},
        "optimizer": config["optimizer"],
        "data": {
            "_target_": "mprnet_lit.data.RestorationDataModule",
            "train": {"_target_": "mprnet_lit.data.Photos", "split": "train"},
            "augmentation": config["data"]["augmentation"],
            "patch_size": 64,
        },
        "callbacks": {"ema": {"decay": 0.9}},
        "trainer": {"max_epochs": 2},
    }
    assert training_settings(kept) == kept
