"""What spikes allow: one bit each where autograd keeps them, sums in place of products."""
