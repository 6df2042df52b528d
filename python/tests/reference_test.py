"""The reference against PyTorch's attention and against arithmetic that can be done by hand."""

import math

import pytest
import torch

from oracle import reference
from problems import DENSE, LAYOUTS, SIFT, Setup, log_probabilities, make

SHORT = (1, 17, 40)


def problem_of(**changes):
    return make(Setup(lengths=SHORT, dtype=torch.float32, device="cpu", **changes))


@pytest.mark.parametrize("table", ("block_table", "indptr"))
@pytest.mark.parametrize("layout", LAYOUTS)
def test_dense_is_the_attention_of_pytorch(layout, table):
    problem = problem_of(layout=layout, table=table)
    plain = problem_of(layout="HND contiguous")
    result = problem.reference()
    for request, length in enumerate(SHORT):
        keys, values = (side[request, :, :length].double() for side in plain.cache)
        expected = torch.nn.functional.scaled_dot_product_attention(
            problem.query[request].double().unsqueeze(1), keys, values, enable_gqa=True
        )
        torch.testing.assert_close(result.output[request], expected.squeeze(1))


def test_log_sum_exp_is_in_base_2():
    problem = problem_of(layout="HND contiguous").with_choices(scale=0.5)
    result = problem.reference()
    keys = problem.cache[0][1, 1, :17].double()  # of KV head 1, which query head 7 reads
    natural = (keys @ problem.query[1, 7].double() * 0.5).logsumexp(0)
    torch.testing.assert_close(result.log_sum_exp[1, 7], natural / math.log(2))


def four_keys(**choices):
    """One head whose four keys have softmax scores 1/2, 1/4, 1/8, 1/8 and values 1, 2, 4, 8."""
    scores = torch.tensor([8.0, 4.0, 2.0, 2.0]).log()
    cache = (scores.view(1, 1, 4, 1), torch.tensor([1.0, 2.0, 4.0, 8.0]).view(1, 1, 4, 1))
    return reference.decode_attention(
        torch.ones(1, 1, 1), cache, torch.tensor([4]), modes=torch.tensor([SIFT]), **choices
    )


def above(eta, **choices):
    return four_keys(thresholds=torch.tensor([[math.log2(eta)]]), **choices)


def test_keeps_what_is_above_the_threshold():
    result = above(0.2)
    assert result.kept[0].tolist() == [[True, True, False, False]]
    assert result.output.item() == pytest.approx(1 / 2 + 2 / 4)
    assert result.kept_mass.item() == pytest.approx(3 / 4)


def test_compensates():
    assert above(0.2, compensation="renormalise").output.item() == pytest.approx(4 / 3)
    means = torch.full((1, 1, 1), 3.75)
    mean = above(0.2, compensation="mean", value_means=means)
    assert mean.output.item() == pytest.approx(1 + 3.75 / 4)


def test_an_empty_head_keeps_the_highest_key_or_nothing():
    highest, zero = above(0.9), above(0.9, empty="zero")
    assert (highest.kept[0].tolist(), highest.empty.item()) == ([[True, False, False, False]], True)
    assert (zero.output.item(), zero.kept_mass.item(), zero.empty.item()) == (0, 0, True)
    assert above(0.9, empty="zero", compensation="renormalise").output.item() == 0


def test_forced_keys_are_kept_and_are_not_counted_as_passed():
    result = above(0.2, sink=1, recent=1)
    assert result.kept[0].tolist() == [[True, True, False, True]]
    assert result.passed[0].tolist() == [[False, True, False, False]]
    assert not above(0.9, recent=1).empty.item()


def test_modes_belong_to_requests():
    problem = problem_of().sifted([SIFT, DENSE, SIFT], tau=0.9, compensation="renormalise")
    result, dense = problem.reference(), problem_of().reference()
    assert torch.equal(result.output[1], dense.output[1])
    assert not torch.allclose(result.output[2], dense.output[2])


def test_requests_that_are_gated_are_dense():
    problem = problem_of().sifted([SIFT, DENSE, SIFT], tau=0.9, compensation="renormalise")
    gated, dense = problem.with_choices(gated=True).reference(), problem_of().reference()
    assert torch.equal(gated.output, dense.output)
    assert torch.equal(gated.log_sum_exp, dense.log_sum_exp)


def test_whether_requests_may_attend_exactly_changes_no_result():
    problem = problem_of().sifted([SIFT], tau=0.9)
    results = (each.reference().output for each in (problem, problem.with_choices(exact=False)))
    assert torch.equal(*results)


def test_thresholds_of_problems_lie_at_the_quantile():
    problem = problem_of()
    for request, keys in enumerate(problem.rows(0)):
        probabilities = log_probabilities(problem.query[request], keys)
        kept = (probabilities > problem.thresholds(0.9)[request][:, None]).double().mean(1)
        assert ((kept - 0.1).abs() <= 4 / keys.shape[1]).all() or keys.shape[1] == 1


def test_facts_count_heads_and_unions():
    problem = problem_of().sifted([SIFT], tau=0.8)
    result = problem.reference()
    heads, groups = reference.facts(result, problem.setup.kv_heads)
    kept = result.kept[2]  # [heads, 40]
    assert heads[2, :, 0].tolist() == kept.sum(1).tolist()
    assert groups[2, :, 0].tolist() == [kept[:4].any(0).sum().item(), kept[4:].any(0).sum().item()]
    masses = heads[..., 2].contiguous().view(torch.float32)
    torch.testing.assert_close(masses.double(), result.kept_mass, atol=1e-6, rtol=0)
