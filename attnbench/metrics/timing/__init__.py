"""How time is taken: blocks of steps by the host's clock or the device's, and the rules of sampling."""
