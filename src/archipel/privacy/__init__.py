"""What a site does to its update before it leaves: steps that a job names in its privacy terms.

It knows tensors and numbers; it does not know tasks, files or how an update is sent.
"""

from archipel.privacy.steps import Step, register_step, steps_of

__all__ = ["Step", "register_step", "steps_of"]
