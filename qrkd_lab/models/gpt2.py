"""GPT-2 as teacher and student: transformers' own models of any size, and the taps into them.

Of a checkpoint only the sizes in ``config.json`` (``FIELDS``) and the safetensors files are read;
what could choose code (``auto_map``, pickles, attention kernels, tokenizer classes) never is.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from qrkd_lab.data.fetch import DataError, file_hash

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "HEAD", "body", "build_gpt2", "fingerprint", "pretrained_config", "pretrained_gpt2", "tap",
    "untrained_gpt2",
]  # fmt: skip

FIELDS = (  # of config.json: numbers and plain words, of which none names code
    "vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "n_inner", "activation_function",
    "hidden_size", "max_position_embeddings", "num_attention_heads", "num_hidden_layers",
    "resid_pdrop", "embd_pdrop", "attn_pdrop", "layer_norm_epsilon", "initializer_range",
    "scale_attn_weights", "scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn",
    "bos_token_id", "eos_token_id", "tie_word_embeddings", "architectures",
)  # fmt: skip
HEAD = 64  # dimensions of an attention head, in every GPT-2


def build_gpt2(
    tokenizer: PreTrainedTokenizerBase,
    layers: int,
    width: int,
    length: int,
    dropout: float = 0.0,
    vocabulary: int | None = None,
    classes: int | None = None,
) -> PreTrainedModel:
    """A new GPT-2 with random weights, drawn from torch's global stream, in float32.

    Args:
        tokenizer: gives the number of words and the end-of-text token.
        layers: transformer blocks.
        width: d, a multiple of 64; each attention head has 64 dimensions, as in every GPT-2.
        length: the longest sequence, tokens.
        dropout: after embeddings, attention and blocks, a fraction.
        vocabulary: rows of the embedding; None: the tokenizer's.
        classes: None: a language model, ``GPT2LMHeadModel``; else a classifier of sequences,
            ``GPT2ForSequenceClassification``.

    Example:
        >>> from qrkd_lab.data.text import train_tokenizer
        >>> tokenizer = train_tokenizer(["to be or not to be"], vocabulary=260)
        >>> sum(p.numel() for p in build_gpt2(tokenizer, 1, 64, 16).parameters())
        67776
    """
    from transformers import GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel

    end = tokenizer.eos_token_id
    labels = {} if classes is None else {"num_labels": classes}
    config = GPT2Config(
        vocab_size=vocabulary or len(tokenizer),
        n_positions=length,
        n_embd=width,
        n_layer=layers,
        n_head=width // HEAD,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
        resid_pdrop=dropout,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=None,  # padding is at the end only, see body()
        dtype=torch.float32,
        **labels,
    )
    return (GPT2LMHeadModel if classes is None else GPT2ForSequenceClassification)(config)


def pretrained_gpt2(
    name: str,
    tokenizer: PreTrainedTokenizerBase,
    length: int,
    dropout: float | None = None,
    classes: int | None = None,
) -> PreTrainedModel:
    """A GPT-2 checkpoint from a folder or the hub, in float32; a new head for ``classes``.

    Only safetensors are read: a pickled checkpoint can run code when it is loaded.

    Raises:
        DataError: see :func:`pretrained_config`; or the weights cannot be had, are damaged, too few
            or too many, or of other shapes than ``config.json`` says.
    """
    kind, config = _kind_and_config(name, tokenizer, length, classes)
    if dropout is not None:
        config.embd_pdrop = config.attn_pdrop = config.resid_pdrop = dropout
    try:
        model, found = kind.from_pretrained(
            os.path.expanduser(name), config=config, dtype=torch.float32, use_safetensors=True,
            output_loading_info=True,
        )  # fmt: skip
    except Exception as error:  # what a damaged file does within transformers is not documented
        raise _not_loaded(name, error) from error
    missing = found["missing_keys"] - {"score.weight"}  # of a classifier: a new one is drawn
    unused = found["unexpected_keys"] - {"lm_head.weight"}
    if missing or unused:
        raise DataError(
            f"{name}: the weights are not those of config.json: {len(missing)} are missing (they "
            f"would be random) and {len(unused)} too many, e.g. {min(missing | unused)}. Take both "
            "files from one GPT-2"
        )
    if classes is None and not any("LMHead" in kind for kind in config.architectures or ["LMHead"]):
        warnings.warn(
            f"{name} was saved without a language model's head ({config.architectures[0]}): its "
            "embedding is taken. A model that was trained for something else predicts badly so",
            stacklevel=2,
        )
    return model


def untrained_gpt2(
    name: str, tokenizer: PreTrainedTokenizerBase, length: int, classes: int | None = None
) -> PreTrainedModel:
    """A GPT-2 of a checkpoint's size that has learnt nothing, from torch's global stream."""
    kind, config = _kind_and_config(name, tokenizer, length, classes)
    return kind(config).float()


def _kind_and_config(
    name: str, tokenizer: PreTrainedTokenizerBase, length: int, classes: int | None
) -> tuple[type[PreTrainedModel], PreTrainedConfig]:
    """The class of a checkpoint's model, and its configuration, as this kit uses them."""
    from transformers import GPT2ForSequenceClassification, GPT2LMHeadModel

    config = pretrained_config(name, tokenizer, length)
    config.pad_token_id = None
    if classes is None:
        return GPT2LMHeadModel, config
    config.num_labels = classes
    return GPT2ForSequenceClassification, config


def fingerprint(name: str, config: PreTrainedConfig) -> str:
    """What tells one checkpoint from another: its files' SHA-256, or the hub's commit."""
    folder = Path(name).expanduser()
    if not folder.is_dir():
        return f"hub {name} {getattr(config, '_commit_hash', None)}"
    files = [folder / "config.json", *sorted(folder.glob("*.safetensors"))]
    return " ".join(file_hash(file, "sha256") for file in files if file.is_file())


def pretrained_config(
    name: str, tokenizer: PreTrainedTokenizerBase, length: int
) -> PreTrainedConfig:
    """The configuration of a checkpoint, once it is seen to fit.

    Raises:
        DataError: it cannot be had (says which files to put where), is no GPT-2, has no room for
            sequences of this length, or does not fit the tokenizer.
    """
    from transformers import GPT2Config

    try:
        held, _ = GPT2Config.get_config_dict(os.path.expanduser(name))
    except Exception as error:  # as of the weights
        raise _not_loaded(name, error) from error
    if held.get("model_type") != "gpt2":
        raise DataError(f"{name} is a {held.get('model_type')!r}; expected a GPT-2 checkpoint")
    try:
        config = GPT2Config(**{field: held[field] for field in FIELDS if field in held})
    except Exception as error:  # of a wrong number or word
        raise DataError(f"{name}: config.json makes no GPT-2: {error}") from error
    config._commit_hash = held.get("_commit_hash")
    if length > config.n_positions:
        raise DataError(
            f"{name} has room for {config.n_positions} tokens, sequence_length is {length}: "
            f"use sequence_length={config.n_positions} or less"
        )
    if len(tokenizer) > config.vocab_size:
        raise DataError(
            f"{name} knows {config.vocab_size:,} tokens, its tokenizer makes {len(tokenizer):,}: "
            "they do not belong together. Put the tokenizer's own files (vocab.json and "
            "merges.txt, or tokenizer.json) beside the model's"
        )
    return config


def _not_loaded(name: str, error: Exception) -> DataError:
    return DataError(
        f"the model {name!r} could not be loaded: {(str(error) or repr(error)).splitlines()[0]}\n"
        "Put config.json, model.safetensors, vocab.json and merges.txt into a folder and give it "
        "as teacher_model=FOLDER (a file that is there is damaged: fetch it again), or use --scale "
        "laptop, which needs no pretrained model."
    )


def tap(
    hidden: Tensor, how: str, lengths: Tensor | None = None, positions: Tensor | None = None
) -> Tensor:
    r"""The features that relations compare, from hidden states.

    ==========  ================================================================================
    ``mean``    :math:`f_i = \frac{1}{l_i} \sum_{s < l_i} h_{is}`, over the real tokens of i
    ``last``    :math:`f_i = h_{i, l_i - 1}`, the last real token's
    ``tokens``  rows of ``hidden.flatten(0, 1)`` at given positions: each token a sample
    ==========  ================================================================================

    Args:
        hidden: ``(n, t, d)``, padded at the end.
        how: ``mean``, ``last`` or ``tokens``.
        lengths: number of real tokens ``(n,)``; None: all t.
        positions: for ``tokens``: ``(k,)`` in 0 .. n t - 1, real tokens only.

    Returns:
        ``(n, d)``; for ``tokens`` ``(k, d)``.

    Raises:
        ValueError: an unknown tap, or ``tokens`` without positions.

    Example:
        >>> tap(torch.ones(2, 3, 4), "mean").shape
        torch.Size([2, 4])
    """
    n, t, _ = hidden.shape
    if how == "tokens":
        if positions is None:
            raise ValueError("the tap 'tokens' needs positions, got None")
        return hidden.flatten(0, 1)[positions]
    if how == "last":
        if lengths is None:
            return hidden[:, -1]
        return hidden[torch.arange(n, device=hidden.device), lengths - 1]
    if how == "mean":
        if lengths is None:
            return hidden.mean(1)
        real = torch.arange(t, device=hidden.device) < lengths[:, None]  # (n, t)
        return torch.where(real[..., None], hidden, 0).sum(1) / lengths[:, None]
    raise ValueError(f"unknown tap {how!r}; choose from mean, last, tokens")


def body(model: nn.Module, tokens: Tensor) -> Tensor:
    """Hidden states ``(n, t, d)`` after the last block and its norm.

    No attention mask: sequences are padded at the end only, where causal attention never looks.
    """
    return model.transformer(tokens, use_cache=False).last_hidden_state
