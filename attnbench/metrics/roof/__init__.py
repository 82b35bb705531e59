"""What bounds a step from below: the bytes that it must move, and the measured peaks of the device."""
