"""Forward passes of the language model over the slots of the KV cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from langchain_internvl.backends.transformers.attention import slot_attention
from langchain_internvl.backends.transformers.devices import execution_device
from langchain_internvl.backends.transformers.kv_passes import DecodePass, PromptPass
from langchain_internvl.backends.transformers.rope import DynamicRope

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from langchain_internvl.backends.transformers.attention import KVPass
    from langchain_internvl.backends.transformers.block_pass import BlockPass
    from langchain_internvl.backends.transformers.graphs import DecodeGraphs
    from langchain_internvl.backends.transformers.sequences import Sequence


class LanguageModel:
    """Runs the language model of a native InternVL.

    transformers' caches are not used: the attention of `attention.py` writes to the slots.

    Args:
        model: A native InternVL, in evaluation mode.
        graphs: CUDA graphs of decode steps; None: there are none.
    """

    def __init__(self, model: Any, graphs: DecodeGraphs | None = None) -> None:
        self._model = model
        self._graphs = graphs
        self._text_config = model.config.get_text_config()
        self._rope = DynamicRope(model)

    @property
    def device(self) -> torch.device:
        """Device of token ids and positions."""
        return execution_device(self._model.get_input_embeddings())

    @property
    def context_id(self) -> int:
        """Id of the context token, whose embedding is replaced by an image feature."""
        return int(self._model.config.image_token_id)

    def embed(self, ids: Items[int], features: Items[torch.Tensor]) -> torch.Tensor:
        """Embed a part of a prompt, with image features in place of context tokens.

        Args:
            ids: The token ids.
            features: Tensors [n, hidden size] in prompt order, with one row for each context token.

        Returns:
            Tensor [1, tokens, hidden size].
        """
        tokens = torch.tensor([list(ids)], device=self.device)
        embeddings: torch.Tensor = self._model.get_input_embeddings()(tokens)
        if not features:
            return embeddings
        rows = [one.to(embeddings.device, embeddings.dtype) for one in features]
        places = tokens == self.context_id
        return embeddings.masked_scatter(places[..., None], torch.cat(rows))

    def read(self, sequence: Sequence, embeddings: torch.Tensor) -> torch.Tensor:
        """Prefill the next tokens of a prompt, and store their keys and values in the slot.

        Args:
            sequence: A sequence with a slot.
            embeddings: [1, tokens, hidden size].

        Returns:
            Logits of the next token, float32 [1, vocabulary]; [1, 0] before the end of the prompt.
        """
        start, count = sequence.length, embeddings.shape[1]
        is_last = start + count == len(sequence.prompt)
        # With no rows, the product with the vocabulary is skipped.
        nothing = torch.empty(0, dtype=torch.long, device=embeddings.device)
        logits = self._run(
            PromptPass(_slot(sequence), start),
            inputs_embeds=embeddings,
            position_ids=torch.arange(start, start + count, device=embeddings.device)[None],
            length=start + count,
            logits_to_keep=1 if is_last else nothing,
        )
        sequence.length = start + count
        return logits[:, -1].float() if is_last else logits.new_empty(1, 0)

    def decode(self, sequences: Items[Sequence]) -> torch.Tensor:
        """Run a decode step: the forward pass of the last token of every sequence.

        Args:
            sequences: Sequences in the order of `DecodePass.order`.

        Returns:
            Logits of their next tokens, float32 [sequences, vocabulary].
        """
        lengths = [one.length for one in sequences]
        both = torch.tensor([[one.reply[-1] for one in sequences], lengths], device=self.device)
        tokens, positions = both[:, :, None]
        logits = self._run(
            DecodePass([_slot(one) for one in sequences], lengths),
            input_ids=tokens,
            position_ids=positions,
            length=max(lengths) + 1,
            logits_to_keep=1,
        )
        for one in sequences:
            one.length += 1
        return logits[:, -1].float()

    def step(self, sequences: Items[Sequence], *, may_replay: bool) -> torch.Tensor:
        """Run a decode step, by a CUDA graph where possible.

        Args:
            sequences: See `decode`.
            may_replay: Whether a graph may run the step: together with dummy rows, and with a RoPE
                that does not depend on the length.

        Returns:
            See `decode`.
        """
        logits = self._replay(sequences) if may_replay else None
        return self.decode(sequences) if logits is None else logits

    def _replay(self, sequences: Items[Sequence]) -> torch.Tensor | None:
        """Logits of a step that a CUDA graph runs; None: there is none."""
        if self._graphs is None:
            return None
        states = self._graphs.run(
            [_slot(one) for one in sequences],
            [one.length for one in sequences],
            [one.reply[-1] for one in sequences],
            self._states,
        )
        if states is None:
            return None
        logits: torch.Tensor = self._model.get_output_embeddings()(states)
        for one in sequences:
            one.length += 1
        return logits[:, -1].float()

    def _states(self, step: BlockPass) -> torch.Tensor:
        """Last hidden states [rows, 1, hidden size] of a pass whose RoPE is length-independent."""
        step.begin()
        output = self._pass(
            self._model.model,
            step,
            input_ids=step.ids,
            position_ids=step.positions,
            length=1,
        )
        states: torch.Tensor = output.last_hidden_state
        return states

    def weigh(self, sequence: Sequence, first: torch.Tensor, ids: Items[int]) -> float:
        """Natural logarithm of the probability of a continuation, which is not kept.

        Args:
            sequence: A sequence whose prefill is complete.
            first: Logits of the next token [vocabulary].
            ids: Token ids of the continuation.
        """
        weight = first.log_softmax(-1)[ids[0]]
        start = sequence.length
        if len(ids) > 1:
            tokens = torch.tensor([list(ids)], device=self.device)
            places = torch.arange(start, start + len(ids) - 1, device=self.device)
            logits = self._run(
                PromptPass(_slot(sequence), start),
                input_ids=tokens[:, :-1],
                position_ids=places[None],
                length=start + len(ids),
            )
            rest = logits[0].float().log_softmax(-1)
            chosen = tokens[0, 1:, None].to(rest.device)
            weight = weight + rest.gather(1, chosen).sum().to(weight.device)
        return float(weight)

    def _run(self, kv_pass: KVPass, *, length: int, **inputs: Any) -> torch.Tensor:
        """Logits [sequences, tokens, vocabulary] of a pass with a longest sequence of `length`."""
        logits: torch.Tensor = self._pass(self._model, kv_pass, length=length, **inputs).logits
        return logits

    def _pass(self, model: Any, kv_pass: KVPass, *, length: int, **inputs: Any) -> Any:
        """Output of the model with its head, or without."""
        device = inputs["position_ids"].device
        with slot_attention(self._text_config), self._rope.frequencies(length):
            return model(
                **inputs,
                # transformers does not change a mask of four dimensions; the pass makes its own.
                attention_mask=torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device),
                use_cache=False,
                kv_pass=kv_pass,
            )


def _slot(sequence: Sequence) -> Any:
    if sequence.slot is None:
        raise RuntimeError("the sequence has no slot")
    return sequence.slot
