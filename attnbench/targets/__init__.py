"""From the text of a Case to a living module with its inputs."""
