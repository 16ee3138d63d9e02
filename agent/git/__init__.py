"""Git repositories, behind ``agent.ports.source``; git itself does the work."""
