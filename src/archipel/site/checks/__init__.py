"""What a site can try before it approves: preflight, a dry run on generated data, and training on its own data alone.

It knows everything at the site but the agent.
"""
