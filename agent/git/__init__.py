"""Git repositories, behind ``agent.ports.source``; git itself does the work.

``environment`` says with which options and environment every git process runs, ``process`` runs one, ``repos`` and
``tree`` implement the ports, ``refs`` tells which ref names we accept.
"""
