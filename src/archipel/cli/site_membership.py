"""``archipel site renew``: a new certificate for this site, on a person's command."""

from __future__ import annotations

from archipel.cli.site_terminal import State, console, opened


def renew(state: State) -> None:
    """Get a new certificate now, on a new TLS key; the identity key and all approvals stay."""
    import asyncio

    from archipel.cli.logs import configure_logs
    from archipel.site.membership import certificates, renewal

    # The text below has it all; the log line is for an agent that renews by itself.
    configure_logs("warning")
    with opened(state) as site:
        site.joined()
        before = certificates.credentials(site.keys).expires
        until = asyncio.run(renewal.renew_now(site))
        running = site.agent_runs()
        screen = console()
        screen.print(
            f"site {site.name} has a new certificate until {until:%Y-%m-%d %H:%M:%S} UTC; its identity key stays"
        )
        screen.print(
            f"the old one lasts until {before:%Y-%m-%d %H:%M:%S} UTC unless the server's operator revokes it"
            + ("; the agent uses the new one from its next connection on" if running else "")
        )
