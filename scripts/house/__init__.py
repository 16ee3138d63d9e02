"""What quickstart, flow tests and benches share: an agent of their own on this machine, and nothing left of it after.

Standard library only, since quickstart runs it before anything of ours has been tried.
"""
