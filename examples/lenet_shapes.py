"""The shapes inside LeNet, layer by layer."""

from numbacnn import models, nn


def main() -> None:
    """Print both forms of LeNet."""
    for pooling in ("avg", "max"):
        model = models.lenet(pooling=pooling)
        print(f'lenet(pooling="{pooling}"), {sum(parameter.size for parameter in model.parameters())} parameters')
        print(shape_table(model, (1, 1, 28, 28)))


def shape_table(model: nn.Sequential, shape: tuple[int, ...]) -> str:
    """A line per layer: its name and its output's shape, for an input of ``shape``."""
    lines = []
    for layer in model:
        shape = layer.output_shape(shape)
        lines.append(f"{type(layer).__name__} output shape:\t{shape}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
