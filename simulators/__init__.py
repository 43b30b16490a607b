"""Field sensors on a desk: a world, the devices that measure it, the network that delivers their frames."""
