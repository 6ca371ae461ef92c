"""What a stream remembers: which frames count, streams that begin anew, states in files."""

from typing import NamedTuple

import pytest
import torch

from spikewise.models import build_model
from spikewise.neurons import Neuron, heaviside

FRAMES = torch.rand(7, 3, 2, 16, 16) * 3


def small(**options):
    torch.manual_seed(0)
    net = build_model("sew_7b", num_classes=5, num_blocks=2, **options).eval()
    for layer in net.spiking_layers.values():
        torch.nn.init.uniform_(layer.norm.weight, 1.0, 3.0)
    return net


def stream(net, frames, state=None, **options):
    """Logits after every frame, and the last state."""
    found = []
    with torch.no_grad():
        for frame in frames:
            logits, state = net.step(frame, state, **options)
            found.append(logits)
    return found, state


def features_of(net, frames):
    """Of every frame, one after the other [T, N, F]."""
    with torch.no_grad():
        return net.features(frames, (1,))[1].mean((-2, -1))


@pytest.mark.parametrize("window", [1, 3, 100])
def test_a_window_averages_the_latest_frames(window):
    net, features = small(), features_of(small(), FRAMES)
    logits, state = stream(net, FRAMES, memory=window)
    for t, found in enumerate(logits):
        torch.testing.assert_close(found, net.head(features[max(0, t + 1 - window) : t + 1].mean(0)))
    assert len(state.recent) == min(window, len(FRAMES))


def test_a_decay_weighs_frames_by_their_age():
    net, features = small(), features_of(small(), FRAMES)
    for t, found in enumerate(stream(net, FRAMES, memory=0.75)[0]):
        weights = 0.75 ** torch.arange(t, -1.0, -1.0)
        torch.testing.assert_close(found, net.head((weights[:, None, None] * features[: t + 1]).sum(0) / weights.sum()))


def test_all_frames_count_alike_to_the_bit():
    net = small()
    with torch.no_grad():
        for t, found in enumerate(stream(net, FRAMES, memory="all")[0], start=1):
            assert torch.equal(found, net(FRAMES[:t]))


class Adaptation(NamedTuple):
    v: torch.Tensor
    threshold: torch.Tensor


class Adaptive(Neuron):
    def initial_state(self, x):
        return Adaptation(torch.full_like(x, 0.1), torch.full_like(x, self.v_th))

    def step(self, x, state):
        v = 0.5 * state.v + x
        s = heaviside(v - state.threshold, self.surrogate, self.alpha)
        return s, Adaptation(v * (1 - s), state.threshold + 0.25 * s)


@pytest.mark.parametrize("memory", ["all", 3, 0.75])
@pytest.mark.parametrize("neuron", ["IF", "PLIF", Adaptive])
def test_a_stream_begins_anew_and_the_others_go_on(neuron, memory):
    net = small(neuron=neuron, v_reset=-0.25)
    _, state = stream(net, FRAMES[:4], memory=memory)
    new, _ = stream(net, FRAMES[4:], net.reset_streams(state, [1]))
    old, _ = stream(net, FRAMES[4:], state)
    fresh, _ = stream(net, FRAMES[4:, 1:2], memory=memory)
    for anew, gone_on, alone in zip(new, old, fresh, strict=True):
        torch.testing.assert_close(anew[[0, 2]], gone_on[[0, 2]])
        torch.testing.assert_close(anew[1:2], alone)
    assert not torch.equal(new[0][1], old[0][1])


def test_a_state_is_saved_and_read_with_default_settings(tmp_path):
    net = small()
    for memory in ("all", 2, 0.5):
        _, state = stream(net, FRAMES[:3], memory=memory)
        torch.save(net.reset_streams(state, [0]), tmp_path / "state.pt")
        again = torch.load(tmp_path / "state.pt")
        expected, _ = stream(net, FRAMES[3:], net.reset_streams(state, [0]))
        assert all(map(torch.equal, stream(net, FRAMES[3:], again)[0], expected))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda net, state: net.step(FRAMES[0], memory="none"), "memory='none' is unknown; use 'all'"),
        (lambda net, state: net.step(FRAMES[0], memory=0), "memory=0 is unknown"),
        (lambda net, state: net.step(FRAMES[0], memory=1.5), "memory=1.5 is unknown"),
        (lambda net, state: net.step(FRAMES[0], state, memory=4), "began with memory='all', given 4"),
        (lambda net, state: net.reset_streams(state, [3]), "no stream 3; the state is of 3, 0 to 2"),
        (lambda net, state: net.reset_streams(None, [0]), "given a state of type NoneType; pass what net.step returned"),
        (lambda net, state: net.reset_streams(state, "all"), "given 'all'; give the numbers of streams, or a mask of 3"),
        (lambda net, state: net.step(FRAMES[0], state.to("meta")), "the state is on meta, the frame on cpu"),
        (lambda net, state: net.step(FRAMES[0, :2], state), "the state is of 3 streams, the frame of 2"),
    ],
)
def test_mistakes_are_told(call, message):
    net = small()
    _, state = stream(net, FRAMES[:1])
    with pytest.raises(ValueError, match=message):
        call(net, state)


def test_a_frame_that_is_not_finite_spoils_its_stream_until_that_begins_anew():
    """Membranes do not recover, also where the frame has left the window."""
    net, frames = small(), FRAMES.clone()
    frames[1, 0, 0, 0, 0] = float("nan")
    logits, state = stream(net, frames, memory=2)
    assert all(found.isnan().all(1).tolist() == [t >= 1, False, False] for t, found in enumerate(logits))
    assert stream(net, FRAMES[:1], net.reset_streams(state, [0]))[0][0].isfinite().all()


def test_streams_are_chosen_by_number_or_mask_alike():
    net = small()
    _, state = stream(net, FRAMES[:2])
    counts = [[0, 2, 2], [2, 0, 0]]
    for chosen, expected in (
        ([0], counts[0]),
        (torch.tensor([True, False, False]), counts[0]),
        ([False, True, True], counts[1]),
    ):
        assert net.reset_streams(state, chosen).num_steps.tolist() == expected
    for wrong in (torch.tensor(1), [True, False]):
        with pytest.raises(ValueError, match="give the numbers of streams, or a mask of 3"):
            net.reset_streams(state, wrong)


def test_half_precision_streams_begin_anew():
    net = small().to(torch.bfloat16)
    _, state = stream(net, FRAMES[:1].bfloat16())
    assert stream(net, FRAMES[1:].bfloat16(), net.reset_streams(state, [0]))[0][-1].dtype == torch.bfloat16


@pytest.mark.parametrize("memory", ["all", 0.999])
def test_half_precision_streams_do_not_stop_counting(memory):
    """After 256 frames a sum in bfloat16 grows no more, and the mean would fall towards 0."""
    net = small().to(torch.bfloat16)
    _, state = stream(net, FRAMES[:1].bfloat16(), memory=memory)
    features = torch.full_like(state.feature_sum, 0.75).bfloat16()
    for _ in range(1000):
        state = state.remember(features, state.membranes)
    torch.testing.assert_close(state.mean_features, features.float(), rtol=0.01, atol=0)


def test_a_batch_of_no_streams_streams():
    net = small()
    logits, state = stream(net, FRAMES[:2, :0])
    assert logits[-1].shape == (0, 5)
    assert len(net.reset_streams(state, []).feature_sum) == 0
