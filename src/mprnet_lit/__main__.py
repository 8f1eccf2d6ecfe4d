"""The command line: compose the configuration, then run the mode that it names."""

import errno
import importlib
import os
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from mprnet_lit.cli import command_line, usage
from mprnet_lit.config.groups import CONFIG_DIR, modes
from mprnet_lit.config.keys import with_keys
from mprnet_lit.config.messages import check_choices, explain
from mprnet_lit.config.renamed import refuse_renamed
from mprnet_lit.config.resolvers import register_resolvers
from mprnet_lit.config.values import check_values
from mprnet_lit.runs.folder import note_failure
from mprnet_lit.runs.settings import mask_hydras_records
from mprnet_lit.utils import signals, temp_folder
from mprnet_lit.utils.errors import RefusedError, UserError
from mprnet_lit.utils.masking import mask_text
from mprnet_lit.utils.text import printable_lines

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


def main() -> None:
    """Run ``mprnet_lit``, or ``python -m mprnet_lit``, which is the same."""
    # Hydra then raises what goes wrong while composing, rather than printing its own report.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    register_resolvers()
    mode = "train"
    try:
        # Hydra reads sys.argv, and Lightning starts further processes with it.
        sys.argv = [sys.argv[0], *command_line.translate(sys.argv[1:])]
        mode = command_line.chosen_mode(sys.argv[1:])
        check_choices(sys.argv[1:])
        if (text := usage.answer(sys.argv[1:])) is not None:
            print(text, flush=True)
            return
        run = hydra.main(config_path=str(CONFIG_DIR), config_name=mode, version_base="1.3")(_run)
        with signals.forward_signals():
            try:
                run()
            except Exception:
                signals.exit_if_signaled()  # a launcher reports stopped jobs with its own exception
                raise
            signals.exit_if_signaled()
    except (HydraException, OmegaConfBaseException) as error:
        _fail(_sentence(error, mode) or str(error).strip())
    except UserError as error:  # of a sweep, or of one of its jobs
        _fail(str(error))
    except (RecursionError, ValueError) as error:  # of Hydra's parser
        sentence = explain(error, mode)
        if sentence is None:
            raise
        _fail(sentence)
    except KeyboardInterrupt:
        _fail("Interrupted (Ctrl-C). All files written so far are complete", status=130)
    except BrokenPipeError:  # the reader, such as head, has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except OSError as error:  # Hydra makes the run's folder
        _fail(f"{_sentence(error, mode) or error}: set paths.runs to a folder that can be written")


def _run(config: DictConfig) -> Any:
    """Run the mode; a mistake of the user's ends the process with one sentence."""
    try:
        mask_hydras_records(HydraConfig.get())
        if HydraConfig.get().job.chdir:
            raise UserError(
                "hydra.job.chdir=true is not supported: relative paths are read from the folder in "
                "which the command was started; remove it"
            )
        mode = _mode(config)
        refuse_renamed(config, mode)
        check_values(config)
        temp_folder.ensure_temp_folder()
        return importlib.import_module(f"mprnet_lit.cli.{mode}").run(config)
    except Exception as error:
        sentence = _sentence(error, str(config.get("mode")))
        if sentence is None:  # a bug of ours
            traceback.print_exc()
            sentence = f"{type(error).__name__}: {error}"
        sentence = mask_text(with_keys(sentence, config))
        hydra = HydraConfig.get()
        folder = Path(hydra.runtime.output_dir)
        has_own_folder = folder != Path.cwd()
        if has_own_folder and not isinstance(error, RefusedError):
            note_failure(folder, sentence)
        if hydra.mode != RunMode.MULTIRUN:
            _fail(sentence)
        # The sweep continues with its other jobs.
        print(f"Error: {printable_lines(sentence)}", file=sys.stderr)
        raise UserError(f"at least one job of the sweep failed ({folder}): {sentence}") from error


def _mode(config: DictConfig) -> str:
    """Return the mode that a configuration is for.

    Raises:
        UserError: a configuration file sets ``mode``.
    """
    mode, primary = config.get("mode"), HydraConfig.get().job.config_name
    if mode not in modes() or (primary in modes() and mode != primary):
        raise UserError(
            f"a configuration file can't choose the mode ({mode}): add mode=NAME to the command"
        )
    return str(mode)


def _sentence(error: Exception, mode: str) -> str | None:
    """Return the message for an error or for its cause; ``None`` for a bug."""
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__) is not None:
        chain.append(cause)
    for link in chain:
        if isinstance(link, UserError):
            return str(link).rpartition("UserError: ")[2].strip()  # worker processes wrap it
        if clause := temp_folder.temp_folder_problem(link):
            return f"{clause}: make room there, or set TMPDIR to a folder that can be written"
        if isinstance(link, OSError) and link.filename is not None:
            return f"can't use {link.filename}: {link.strerror}"
        if isinstance(link, OSError) and link.errno in _FULL:
            return f"can't write: {link.strerror}; make room, or set paths.runs to another disk"
        if type(link).__name__ == "MisconfigurationException":  # Lightning's own
            return str(link)
    if isinstance(error, HydraException | OmegaConfBaseException):
        return explain(error, mode)
    return None


def _fail(sentence: str, status: int = 1) -> NoReturn:
    rank = os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID")
    if rank in (None, "", "0"):  # once on each machine, not once per process
        print(f"Error: {printable_lines(mask_text(sentence))}", file=sys.stderr)
    raise SystemExit(status)


if __name__ == "__main__":
    main()
