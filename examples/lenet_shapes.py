"""The shapes inside LeNet, layer by layer."""

from numbacnn import models
from numbacnn.cli.networks import shape_table


def main() -> None:
    """Print both forms of LeNet."""
    for pooling in ("avg", "max"):
        model = models.lenet(pooling=pooling)
        print(f'lenet(pooling="{pooling}"), {sum(parameter.size for parameter in model.parameters())} parameters')
        print(shape_table(model, (1, 1, 28, 28)))


if __name__ == "__main__":
    main()
