"""Spiking networks: leaky integrate-and-fire layers, spike-timing plasticity, counted synaptic operations.

Belongs here: spiking models and the modelled energy of their operations.
Does not: joules read from a counter (see `aura.measure`).
"""
