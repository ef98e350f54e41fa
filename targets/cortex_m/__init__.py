"""Microcontrollers with an Arm Cortex-M core: generated C, compiled, linked to a device's memory and emulated."""
