"""What a history says of its last observation."""

from geomprobe.callbacks.history import History, Record
from geomprobe.diagnostics import PublishedScore, Score, ZooScore, published
from geomprobe.diagnostics.published import write_scores
from geomprobe.findings import Estimate, Finding


def observed(trace):
    fisher = Finding("fisher_information", "model", {"trace": Estimate(trace, 0.5)})
    entropy = Finding("persistent_homology", "fc", {"h1_entropy": Estimate(3.0, 0.1)})
    failed = Finding("curvature", "model", failed="no memory")
    return Record(7, 1.0, 0.25, (fisher, entropy, failed), 0.1)


def test_the_last_observation_is_told_with_what_each_number_is_worth(tmp_path, monkeypatch):
    zoo = ZooScore(
        "confounded", Score(0.4, 0.2, 0.6), Score(0.0, -0.1, 0.1), 0.5, 99, True, "batch_size", 0.3
    )
    scores = {"fisher_trace": PublishedScore.of("fisher_trace", {"H1": zoo})}
    monkeypatch.setattr(published, "SCORES", write_scores(tmp_path / "scores.json", scores, {}))
    assert History([observed(1.0), observed(2.0)]).summary().splitlines() == [
        "step 7, loss 0.25",
        "  geom/fisher_information/model/trace     2 ± 0.5  confounded: follows the "
        "hyper-parameters, the batch size most (Ψ +0.40 [+0.20, +0.60] on H1, for: Tr F)",
        "  geom/persistent_homology/fc/h1_entropy  3 ± 0.1  not scored",
        "  curvature of model failed: no memory",
    ]


def test_before_the_first_observation_there_is_nothing_to_tell():
    assert History().summary() == "no observation yet"
