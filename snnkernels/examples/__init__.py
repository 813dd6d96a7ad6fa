"""Networks to run and to read: ``python -m snnkernels.examples.lif_fc_mnist``."""
