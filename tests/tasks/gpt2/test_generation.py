"""Generation: with the cache as without, batches as single texts, searches as the originals."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch

from kexue_cli.tasks.gpt2.architecture import Architecture
from kexue_cli.tasks.gpt2.beam import beam_search, penalised_beam_search
from kexue_cli.tasks.gpt2.decoding_layers import for_decoding
from kexue_cli.tasks.gpt2.generation import Completion, Rules, Stops, generate
from kexue_cli.tasks.gpt2.model import Gpt, initialise
from kexue_cli.tasks.gpt2.pretrained import open_weights


def tiny(layout: str = "gpt2", positions: str = "learned", context: int = 24) -> Gpt:
    arch = Architecture(
        vocab_size=40, context=context, width=32, layers=2, heads=4, inner=64, layout=layout,
        positions=positions, initializer_range=0.3,
    )  # fmt: skip
    model = Gpt(arch)
    initialise(model, torch.Generator().manual_seed(1))
    return model.eval()


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def greedy_without_cache(model: Gpt, prompt: list[int], n: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(n):
        tokens.append(int(model(torch.tensor([tokens]))[0, -1].argmax()))
    return tokens[len(prompt) :]


@pytest.mark.parametrize("layout", ["gpt2", "gpt2_ml"])
@pytest.mark.parametrize("positions", ["learned", "rotary"])
@torch.inference_mode()
def test_a_batch_of_unequal_prompts_equals_single_texts_without_cache(layout, positions):
    model = tiny(layout, positions)
    prompts = [[3, 1, 4, 1, 5], [9], [2, 6, 5]]
    completions = generate(model, prompts, Rules(max_new_tokens=12, greedy=True), seeded())
    for prompt, completion in zip(prompts, completions, strict=True):
        assert completion.tokens == greedy_without_cache(model, prompt, 12)
        assert completion.reason == "length"


@torch.inference_mode()
def test_log_probability_is_the_models_own():
    model = tiny()
    (completion,) = generate(model, [[3, 1]], Rules(max_new_tokens=5, temperature=0.5), seeded())
    tokens = torch.tensor([[3, 1, *completion.tokens]])
    log_probabilities = model(tokens).log_softmax(-1)[0, 1:-1]
    expected = log_probabilities.gather(1, tokens[0, 2:, None]).sum()
    assert completion.log_probability == pytest.approx(float(expected), abs=1e-4)


def test_same_seed_same_text_other_seed_other_text():
    rules = Rules(max_new_tokens=15)
    one, again = (generate(tiny(), [[1]], rules, seeded())[0].tokens for _ in range(2))
    other = generate(tiny(), [[1]], rules, torch.Generator().manual_seed(1))[0].tokens
    assert one == again != other


def test_text_goes_on_beyond_the_context_or_stops_there():
    model = tiny(context=16)
    prompt = [1, 2, 3]
    long = generate(model, [prompt], Rules(max_new_tokens=40, greedy=True), seeded())[0]
    assert len(long.tokens) == 40
    stopped = generate(
        model, [prompt], Rules(max_new_tokens=40, greedy=True, slides=False), seeded()
    )[0]
    # the last token is predicted from a full context and is not itself read
    assert (len(stopped.tokens), stopped.reason) == (16 - 3 + 1, "context")
    assert long.tokens[: len(stopped.tokens)] == stopped.tokens


def test_the_end_token_ends_a_text_only_after_the_least_length():
    model = tiny()
    free = generate(model, [[7]], Rules(max_new_tokens=20, greedy=True), seeded())[0].tokens
    end = free[2]
    rules = Rules(max_new_tokens=20, min_new_tokens=2, greedy=True, end=end)
    completion = generate(model, [[7]], rules, seeded())[0]
    assert completion.tokens == free[: free.index(end, 1) + 1]
    assert completion.reason == "end"
    forbidding = Rules(20, 19, greedy=True, end=end, forbids_early_end=True)
    assert end not in generate(model, [[7]], forbidding, seeded())[0].tokens[:18]


def test_forbidden_tokens_and_repeated_ngrams_never_come():
    rules = Rules(max_new_tokens=60, forbidden=(0, 5), no_repeat_ngram=2, top_k=8)
    tokens = [1, *generate(tiny(context=80), [[1]], rules, seeded())[0].tokens]
    pairs = list(pairwise(tokens))
    assert not {0, 5} & set(tokens)
    assert len(set(pairs)) == len(pairs)


def test_repetition_penalty_makes_greedy_text_repeat_less():
    model = tiny(context=80)
    plain, punished = (
        generate(
            model, [[1]], Rules(max_new_tokens=60, greedy=True, repetition_penalty=p), seeded()
        )
        for p in (1.0, 5.0)
    )
    assert len(set(punished[0].tokens)) > len(set(plain[0].tokens))


def test_stop_strings_and_streaming():
    seen: list[tuple[int, int]] = []
    rules = Rules(max_new_tokens=20, greedy=True)
    (completion,) = generate(
        tiny(), [[7]], rules, seeded(), stops=lambda t: len(t) == 4,
        on_token=lambda row, token: seen.append((row, token)),
    )  # fmt: skip
    assert completion.reason == "stop"
    assert seen == [(0, token) for token in completion.tokens]
    assert len(seen) == 4


def test_greedy_equals_the_original_gpt2_ml_code(data_dir):
    folder = data_dir / "gpt2_ml" / "v300_l12"
    reference = np.load(folder / "reference.npz")
    prompt = reference["greedy_prompt"].tolist()
    new_tokens = len(reference["greedy_tokens"]) - len(prompt)
    rules = Rules(max_new_tokens=new_tokens, greedy=True, forbidden=(0,))
    (completion,) = generate(open_weights(folder).load(), [prompt], rules, seeded())
    assert prompt + completion.tokens == reference["greedy_tokens"].tolist()


@pytest.mark.parametrize("beams", [1, 3, 5])
@pytest.mark.parametrize("min_new_tokens", [1, 8])
def test_beam_search_equals_bert4keras(data_dir, beams, min_new_tokens):
    folder = data_dir / "gpt2_ml"
    reference = json.loads((folder / "bert4keras_decoding.json").read_text())["v300_l12"]
    model = open_weights(folder / "v300_l12").load()
    rules = Rules(16, min_new_tokens, end=reference["end_id"])
    completion = beam_search(model, reference["prompt"], beams, rules)
    assert completion.tokens == reference[f"beam{beams}_min{min_new_tokens}"]


def test_greedy_beams_and_left_padded_batches_equal_transformers(data_dir):
    folder = data_dir / "gpt2_hf" / "base_act_new"
    reference = np.load(folder / "reference.npz")
    model = open_weights(folder).load()
    prompt = reference["tokens_prompt"][0].tolist()
    new_tokens = len(reference["greedy_tokens"]) - len(prompt)
    greedy = generate(model, [prompt], Rules(max_new_tokens=new_tokens, greedy=True), seeded())[0]
    assert prompt + greedy.tokens == reference["greedy_tokens"].tolist()
    beams = penalised_beam_search(model, prompt, 4, Rules(12, end=511), 1.0)
    assert prompt + beams[0].tokens == reference["beam4_tokens"].tolist()
    padded, mask = reference["leftpad_input"], reference["leftpad_mask"].astype(bool)
    prompts = [row[kept].tolist() for row, kept in zip(padded, mask, strict=True)]
    completions = generate(model, prompts, Rules(max_new_tokens=8, greedy=True), seeded())
    expected = reference["leftpad_greedy"][:, padded.shape[1] :].tolist()
    assert [completion.tokens for completion in completions] == expected


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.0, 2.0])
@pytest.mark.parametrize("end", [4, 21, 511])
def test_penalised_beam_search_equals_transformers(data_dir, length_penalty, end):
    transformers = pytest.importorskip("transformers")
    folder = data_dir / "gpt2_hf" / "base_act_new"
    prompt = [5, 17, 300]
    peer = transformers.GPT2LMHeadModel.from_pretrained(folder)
    expected = peer.generate(
        torch.tensor([prompt]), num_beams=3, max_new_tokens=10, do_sample=False,
        length_penalty=length_penalty, eos_token_id=end, pad_token_id=end, early_stopping=False,
        attention_mask=torch.ones(1, 3, dtype=torch.long),
    )[0].tolist()  # fmt: skip
    model = open_weights(folder).load()
    found = penalised_beam_search(model, prompt, 3, Rules(10, end=end), length_penalty)
    assert prompt + found[0].tokens == expected


@pytest.mark.parametrize(
    ("rules", "options"),
    [
        ({"forbidden": (21, 4)}, {"suppress_tokens": [21, 4]}),
        ({"no_repeat_ngram": 2}, {"no_repeat_ngram_size": 2}),
        ({"repetition_penalty": 1.7}, {"repetition_penalty": 1.7}),
        # transformers counts the tokens before the end mark
        ({"min_new_tokens": 7, "forbids_early_end": True}, {"min_new_tokens": 6}),
    ],
)
@pytest.mark.parametrize("end", [21, 511])
def test_beams_follow_the_rules_as_transformers_beams_do(data_dir, rules, options, end):
    transformers = pytest.importorskip("transformers")
    folder = data_dir / "gpt2_hf" / "base_act_new"
    prompt = [5, 17, 300, 5, 17]
    peer = transformers.GPT2LMHeadModel.from_pretrained(folder)
    expected = peer.generate(
        torch.tensor([prompt]), num_beams=3, num_return_sequences=3, max_new_tokens=12,
        do_sample=False, length_penalty=1.0, eos_token_id=end, pad_token_id=end,
        early_stopping=False, attention_mask=torch.ones(1, 5, dtype=torch.long), **options,
    )[:, 5:].tolist()  # fmt: skip
    model = open_weights(folder).load()
    found = penalised_beam_search(model, prompt, 3, Rules(12, end=end, **rules), 1.0)
    for completion, row in zip(found, expected, strict=True):
        length = len(completion.tokens)
        assert completion.tokens == row[:length]
        assert set(row[length:]) <= {end}  # padding


def both_beam_searches(
    model: Gpt, prompt: list[int], rules: Rules, stops: Stops | None = None
) -> list[Completion]:
    return [
        beam_search(model, prompt, 3, rules, stops),
        penalised_beam_search(model, prompt, 3, rules, 1.0, stops)[0],
    ]


def test_beams_end_at_a_stop_string():
    stops = lambda tokens: len(tokens) == 4  # noqa: E731
    for completion in both_beam_searches(tiny(), [7], Rules(20), stops):
        assert (len(completion.tokens), completion.reason) == (4, "stop")


def test_beams_go_on_beyond_the_context_or_stop_there():
    model = tiny(context=16)
    for completion in both_beam_searches(model, [1, 2, 3], Rules(40)):
        assert (len(completion.tokens), completion.reason) == (40, "length")
    for completion in both_beam_searches(model, [1, 2, 3], Rules(40, slides=False)):
        assert (len(completion.tokens), completion.reason) == (14, "context")


@torch.inference_mode()
def test_beams_find_different_texts_with_the_models_own_log_probabilities():
    model, prompt = tiny(), [3, 1]
    rules = Rules(max_new_tokens=6, repetition_penalty=3.0)
    found = penalised_beam_search(model, prompt, 4, rules, 1.0)
    assert len({tuple(completion.tokens) for completion in found}) == 4
    for completion in [*found, beam_search(model, prompt, 4, rules)]:
        tokens = torch.tensor([[*prompt, *completion.tokens]])
        log_probabilities = model(tokens).log_softmax(-1)[0, 1:-1]
        expected = log_probabilities.gather(1, tokens[0, 2:, None]).sum()
        assert completion.log_probability == pytest.approx(float(expected), abs=1e-4)


@pytest.mark.parametrize("greedy", [False, True])
def test_a_text_ends_where_the_rules_allow_no_token(greedy):
    rules = Rules(max_new_tokens=60, greedy=greedy, no_repeat_ngram=1)
    model, prompts = tiny(context=80), [[1, 2], [3, 4, 5, 6], list(range(40))]
    for prompt, completion in zip(prompts, generate(model, prompts, rules, seeded()), strict=True):
        assert completion.reason == "rules"
        assert sorted([*prompt, *completion.tokens]) == list(range(40))


def test_beams_end_where_the_rules_allow_no_token():
    rules = Rules(max_new_tokens=60, no_repeat_ngram=1)
    for prompt in ([1, 2, 3], list(range(40))):
        for completion in both_beam_searches(tiny(context=80), prompt, rules):
            assert completion.reason == "rules"
            assert sorted([*prompt, *completion.tokens]) == list(range(40))


@pytest.mark.parametrize("rows", [1, 3])
@torch.inference_mode()
def test_decoding_layers_give_the_models_logits(rows):
    tokens = torch.tensor([[5, 1, 9]] * rows)
    expected = tiny()(tokens)
    for weights, tolerance in (("float32", 1e-5), ("bfloat16", 0.06), ("int8", 0.06)):
        model = for_decoding(tiny(), rows, weights)
        assert (model(tokens) - expected).abs().max() < tolerance * expected.abs().max()
        one_row = model(tokens[:1, :1])
        assert (one_row - expected[:1, :1]).abs().max() < tolerance * expected.abs().max()
