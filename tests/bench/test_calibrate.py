"""Fitting the costs of plans: from times that are known, and on this machine."""

from __future__ import annotations

import numpy as np
import pytest
from numba.core import config

from bench import calibrate
from numbacnn.backends.cpu.vector import costs


def test_costs_are_found_again_from_the_times_that_they_tell():
    rng, cycle, call = np.random.default_rng(0), 2e-10, 3e-5
    true = costs.WinogradWeight(1.1, 2.9, 6.0, 150.0)
    samples = []
    for _ in range(200):
        numbers = np.append(rng.uniform(1e5, 1e7, 4) / np.array(costs.WINOGRAD_WEIGHT), 1e6)
        samples.append(calibrate.Sample("", numbers, float(numbers @ [*true, 1.0]) * cycle + call))
    fitted, seconds = calibrate.fit(samples, costs.WINOGRAD_WEIGHT, cycle)
    np.testing.assert_allclose(fitted, true, rtol=0.06)
    assert seconds == pytest.approx(call, rel=0.6)


def test_costs_that_no_sample_has_stay_as_they_are():
    samples = [calibrate.Sample("", np.array([times * 1e6, 0, 0, 0, 0]), times * 4e-4) for times in (1, 2, 3)]
    fitted, _ = calibrate.fit(samples, costs.WINOGRAD_WEIGHT, 2e-10)
    assert fitted[1:] == pytest.approx(costs.WINOGRAD_WEIGHT[1:])
    assert fitted.multiplying == pytest.approx(2, rel=0.1)


def test_the_table_is_rewritten_and_can_be_read():
    text = calibrate.TABLE.read_text()
    fitted = {name: getattr(costs, name) for name in calibrate.PLANS}
    same: dict[str, object] = {"__name__": "again"}
    exec(calibrate.rewritten(text, costs.TILE_RATES, fitted), same)
    for name, table in fitted.items():
        assert same[name] == pytest.approx(table, rel=1e-2)
    other: dict[str, object] = {"__name__": "other"}
    exec(calibrate.rewritten(text, [0.25, 0.5], {"DIRECT_DATA": costs.DIRECT_DATA._replace(tile=12.345)}), other)
    assert other["DIRECT_DATA"].tile == 12.3 and other["TILE_RATES"] == (0.25, 0.5)
    assert other["DIRECT_WEIGHT"] == costs.DIRECT_WEIGHT._replace() and "rewritten" not in other
    with pytest.raises(ValueError, match="`text` has 0 tables DIRECT_DATA, must have one"):
        calibrate.rewritten("", [], {"DIRECT_DATA": costs.DIRECT_DATA})


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled")
def test_the_command_times_plans_of_every_table(capsys):
    before = calibrate.TABLE.read_text()
    code = calibrate.main(["--problems", "1"])
    out = capsys.readouterr()
    if code == 2:
        assert "plans are made for 2 threads" in out.err
        return
    assert code == 0
    for name, table in ((name, getattr(costs, name)) for name in calibrate.PLANS):
        assert all(any(line.split()[:2] == [name, cost] for line in out.out.splitlines()) for cost in table._fields)
    assert out.out.count("fitted: times are") == len(calibrate.PLANS)
    assert calibrate.TABLE.read_text() == before
