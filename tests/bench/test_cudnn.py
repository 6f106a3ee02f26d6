"""cuDNN as a peer of ``bench.conv``: what its package is asked for, beside a driver and a package without a GPU."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from bench import peers
from bench.command import UserError
from tests.backends.cuda.conftest import library, run  # noqa: F401 - fixtures


def test_every_pass_precision_and_layout(run: Callable[..., list[str]]) -> None:  # noqa: F811
    """Operands, geometry and results of all are right, and the fastest plan that the precision allows is taken."""
    run(
        """
        import sys
        from tests.bench import cudnn_stub as stub
        sys.modules["cudnn"] = stub
        from bench import cudnn_conv, peers
        from bench.conv_rows import PASSES, call_backend, random_operands
        from bench.precision import PEER_PRECISIONS, Ways
        from numbacnn.backends.cuda.runtime.device_array import device
        cudnn_conv.time = stub.clock
        warnings.simplefilter("ignore")  # this driver refuses captures
        stub.refused.add(stub.data_type.BFLOAT16)
        loaded = peers.load(["cudnn"], 1, "cuda", Ways(PEER_PRECISIONS))
        assert loaded.packages == ["nvidia-cudnn-frontend"] and loaded.libraries == {"cuDNN": "9.28.1"}
        names = {}
        for descriptor in ("n2c4h7w6k6r3s2p1d2g2", "n1c2h5k3r3rw2p1pb2pw0"):
            g = Conv2dGeometry.parse(descriptor)
            operands = random_operands(g)
            makers = loaded.conv2d(g, *operands)
            for pass_ in PASSES:
                assert list(makers[pass_]) == [
                    f"cudnn{p}{l}" for p in ("", "-tf32", "-bf16") for l in ("", " channels_last")
                ]
                expected = call_backend(backends.get("reference"), g, pass_, "loops", operands)
                for name, make in makers[pass_].items():
                    peer = make()
                    found, bound = peer.to_numpy(peer.run()), {"float32": 1e-6, "tf32": 3e-3, "bf16": 1e-2}
                    difference = np.abs(found - expected).max() / np.abs(expected).max()
                    assert found.dtype == np.float32 and found.shape == expected.shape, name
                    assert difference < bound[peer.precision], (descriptor, pass_, name, difference)
                    assert peer.precision == "float32" or difference > 1e-6, name
                    assert peer.layout == ("channels_last" if "channels" in name else "nchw")
                    names.setdefault((peer.precision, pass_ == "forward"), set()).add(peer.algorithm)
        # 3 is refused when it runs, 0 and 1 by their notes, 2 by one too where float32 has to stay as it is
        assert names == {
            ("float32", True): {"eng5"}, ("float32", False): {"eng5"},
            ("tf32", True): {"eng2"}, ("tf32", False): {"eng2"},
            ("bf16", True): {"eng0 + eng0"}, ("bf16", False): {"eng0"},
        }, names
        main = device().stream
        assert {main} < set(stub.streams), "what is captured goes into the stream of the capture"

        stub.PLANS = stub.PLANS[:1]
        stub.refused.add(stub.data_type.FLOAT)
        loaded = peers.load(["cudnn"], 1, "cuda")
        try:
            loaded.conv2d(g, *operands)["forward"]["cudnn"]()
        except RuntimeError as error:
            assert str(error) == "no engine takes both; cuDNN has no plan in this precision"
        else:
            raise AssertionError
        """,
        graph=801,
    )


def test_it_computes_on_the_gpu_alone() -> None:
    with pytest.raises(UserError, match="peer cudnn computes on the GPU alone, beside --backend cuda"):
        peers.load(["cudnn"], 1)
    assert "cudnn" not in peers.load(["all"], 1).missing


def test_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    class WithoutLibrary:
        @staticmethod
        def backend_version_string() -> str:
            raise RuntimeError("no libcudnn")

    monkeypatch.setitem(sys.modules, "cudnn", WithoutLibrary)
    with pytest.raises(ImportError, match=r'finds no cuDNN \(no libcudnn\): pip install "numbacnn\[bench-cuda\]"'):
        peers.load(["cudnn"], 1, "cuda")
    monkeypatch.setitem(sys.modules, "cudnn", None)
    with pytest.raises(ImportError, match=r'peer cudnn cannot be imported .*: pip install "numbacnn\[bench-cuda\]"'):
        peers.load(["cudnn"], 1, "cuda")
