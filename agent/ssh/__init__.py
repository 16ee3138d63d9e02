"""The front door: one SSH port for pushes, commands and terminals.

``door`` accepts sockets and lets them in by the rules of ``turnstile``; ``gate`` knows users by the key that signed;
``channel`` is a session's two streams; ``shell`` sends each command line to the right place and maps every exception
to a line and a status; ``push`` is one ``git push``; ``server`` joins them; ``hostkey`` makes and keeps our own keys.
"""
