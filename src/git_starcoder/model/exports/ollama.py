"""A folder for Ollama: the file of llama.cpp, and a Modelfile whose template makes the prompts of the training.

Ollama fills `.Prompt` and `.Suffix` into the template. There is no place for a path or the name of the repository, so
the prompts are those of `git starcoder complete` without a path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_starcoder.errors import UsageError
from git_starcoder.model.exports import gguf
from git_starcoder.model.loading import TRAINING_RECORD, knows_suffix_first, read_training_record
from git_starcoder.row_layout import gap_prompt
from git_starcoder.text.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from git_starcoder.text.tokenizer import Tokenizer

NUMBER_TYPES = gguf.NUMBER_TYPES
MODELFILE = "Modelfile"


def write(model_folder: Path, folder: Path, number_type: str) -> list[str]:
    """Write `model-TYPE.gguf` and `Modelfile`. Returns and raises what `gguf.write` does."""
    notes = gguf.write(model_folder, folder, number_type)
    tokenizer = load_tokenizer(model_folder)
    if tokenizer.fim_ids is None:
        notes.append("the model has no fill-in-the-middle tokens, so Ollama cannot give it the text after the cursor")
    has_record = (model_folder / TRAINING_RECORD).is_file()
    config = read_training_record(model_folder)["config"] if has_record else {"base": str(model_folder)}
    text = render_modelfile(tokenizer, gguf.file_name(number_type), suffix_first=knows_suffix_first(config))
    (folder / MODELFILE).write_text(text, encoding="utf-8")
    return notes


def render_modelfile(tokenizer: Tokenizer, file: str, *, suffix_first: bool) -> str:
    """The Modelfile for a file of weights beside it. Ollama's default temperature is 0.8; ours is 0.

    Raises:
        UsageError: The spelling of a control token has characters that end a text in the Modelfile.
    """
    template = render_template(tokenizer, suffix_first=suffix_first)
    if '"""' in template:
        raise UsageError("a control token has three quotation marks", where="tokenizer.json")
    return f'FROM ./{file}\nTEMPLATE """{template}"""\nPARAMETER temperature 0\n'


def render_template(tokenizer: Tokenizer, *, suffix_first: bool = False) -> str:
    """The template of a prompt, in the language of Go's package text/template.

    With a text after the cursor it is a `row_layout.gap_prompt`, otherwise a new text.
    """
    # The token for the beginning of a text, if the model has one, is added to each prompt: see `gguf_tokenizer`.
    end = tokenizer.control_tokens[tokenizer.end_id] if tokenizer.begin_id is None else ""
    plain = f"{end}{{{{ .Prompt }}}}"
    if tokenizer.fim_ids is None:
        return plain
    prefix, middle, suffix = (tokenizer.control_tokens[number] for number in tokenizer.fim_ids)
    parts = gap_prompt("{{ .Prompt }}", "{{ .Suffix }}", (prefix, suffix, middle), suffix_first=suffix_first)
    masked = "".join(parts)
    return f"{{{{ if .Suffix }}}}{masked}{{{{ else }}}}{plain}{{{{ end }}}}"
