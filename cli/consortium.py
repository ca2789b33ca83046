"""`yunxi consortium`: members, votes, and the consortium's own chain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.frame import (
    HERE,
    JsonOption,
    NodeOption,
    answering,
    counted,
    local_time,
    numbers_table,
    open_node,
    print_json,
    print_table,
    say,
)
from ledger.errors import CouldNotRun

if TYPE_CHECKING:
    from ledger.governance import ConsortiumState, Motion
    from ledger.node import Node

consortium_app = typer.Typer(help="The consortium: its members, its votes, its own chain.", no_args_is_help=True)
propose_app = typer.Typer(help="Propose a change; the proposal counts as an approval.", no_args_is_help=True)
consortium_app.add_typer(propose_app, name="propose")

AsOption = Annotated[str, typer.Option("--as", metavar="DEPARTMENT", help="The department of this node that speaks.")]
DaysOption = Annotated[int, typer.Option(help="How long the proposal stays open.", min=1, max=30)]
NumberArgument = Annotated[int, typer.Argument(metavar="N", help="The proposal's number.", min=0)]
MemberArgument = Annotated[str, typer.Argument(metavar="ID", help="The department that it is about.")]


@consortium_app.command("show")
@answering
def consortium_show(node_dir: NodeOption = HERE, as_json: JsonOption = False) -> None:
    """Show departments, contracts, votes needed and proposals, as the chain has them."""
    from ledger.governance import consortium_state

    with open_node(node_dir) as node:
        found = consortium_state(node)
    if as_json:
        print_json(asdict(found))
    else:
        _show_consortium(found)


def _show_consortium(found: ConsortiumState) -> None:
    table = numbers_table("department", "state", "keys", "here", "governance account")
    for member in found.departments:
        here = "yes" if member.here else "no"
        table.add_row(member.id, member.state, f"{member.keys}", here, member.governor)
    if found.departments:
        print_table(table)
    else:
        say("No department yet: run `yunxi department add`.")
    say(f"The consortium is the contract at {found.address} on chain {found.chain_id}, first block {found.genesis}.")
    for module in found.modules:
        note = "; this node uses another one: run `yunxi consortium follow`" if module.followed is False else ""
        say(f"{module.name} is the contract at {module.address}{note}.")
    if found.setup_open:
        say(f"Set-up is open: {found.deployer} decides alone until `yunxi consortium close-setup`.")
    else:
        needed = counted(found.votes_needed, "vote")
        say(f"Set-up is closed: {needed} needed; the agreed minimum is {found.minimum_votes}.")
    for motion in found.motions:
        _show_motion(motion)


def _show_motion(motion: Motion) -> None:
    until = f", until {local_time(motion.expires_at)}" if motion.state == "open" else ""
    say(f"Proposal {motion.number} of {motion.proposer} ({motion.state}{until}): {motion.sentence}.")
    if motion.state == "open":
        say(f"  approved by {', '.join(motion.approvals) or 'nobody'}: {counted(motion.votes, 'vote')}")


def _answer_motion(motion: Motion, as_json: bool) -> None:
    if as_json:
        print_json(asdict(motion))
        return
    _show_motion(motion)
    if motion.state == "open":
        say(f"Next: yunxi consortium approve {motion.number} --as DEPARTMENT, then execute {motion.number}.")


@consortium_app.command("close-setup")
@answering
def consortium_close_setup(
    votes: Annotated[int, typer.Option(help="The least number of votes; never less than a majority.", min=2)],
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """End set-up for ever: from then on only votes decide."""
    from ledger.governance import close_setup

    with open_node(node_dir) as node:
        needed = close_setup(node, votes)
    if as_json:
        print_json({"votes_needed": needed})
    else:
        say(f"Set-up is closed for ever; {counted(needed, 'vote')} needed for a change from now on.")


def _propose(node_dir: Path, speaker: str, days: int, as_json: bool, action: Callable[[Node], bytes]) -> None:
    from ledger.governance import propose

    with open_node(node_dir) as node:
        motion = propose(node, speaker, action(node), days)
    _answer_motion(motion, as_json)


@propose_app.command("admit")
@answering
def propose_admit(
    department: MemberArgument,
    name: Annotated[str, typer.Option(help="What people call it, as `中文` or `中文 | English`.")],
    governor: Annotated[str, typer.Option(help="Its governance account, as its own node shows it.")],
    speaker: AsOption,
    days: DaysOption = 7,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Propose to admit a department."""
    from ledger.governance import admission

    _propose(node_dir, speaker, days, as_json, lambda node: admission(node, department, name, governor))


@propose_app.command("suspend")
@answering
def propose_suspend(
    department: MemberArgument,
    speaker: AsOption,
    days: DaysOption = 7,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Propose to suspend a department: it can then neither anchor nor vote."""
    from ledger.governance import suspension

    _propose(node_dir, speaker, days, as_json, lambda node: suspension(node, department))


@propose_app.command("reinstate")
@answering
def propose_reinstate(
    department: MemberArgument,
    speaker: AsOption,
    days: DaysOption = 7,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Propose to take a suspended department back."""
    from ledger.governance import reinstatement

    _propose(node_dir, speaker, days, as_json, lambda node: reinstatement(node, department))


@propose_app.command("rotate-key")
@answering
def propose_rotate_key(
    department: MemberArgument,
    use: Annotated[str, typer.Option(help="Which key: statement, log, encryption, anchor, request or witness.")],
    public_key: Annotated[str, typer.Option(help="The new key, as `yunxi department next-key` shows it.")],
    speaker: AsOption,
    old: Annotated[str | None, typer.Option(metavar="KID", help="The key that ends, where several are open.")] = None,
    days: DaysOption = 7,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Propose to rotate a key of a department that cannot do it itself; in force when the proposal expires."""
    from ledger.governance import expiry, key_rotation

    _propose(
        node_dir,
        speaker,
        days,
        as_json,
        lambda node: key_rotation(node, department, use, public_key, expiry(node, days), old),
    )


@propose_app.command("set-module")
@answering
def propose_set_module(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The contract's name, such as EvidenceLog.")],
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Where the new contract stands.")],
    speaker: AsOption,
    days: DaysOption = 7,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Propose to replace one of the consortium's contracts."""
    from ledger.governance import module_change

    _propose(node_dir, speaker, days, as_json, lambda node: module_change(node, name, address))


@propose_app.command("set-votes")
@answering
def propose_set_votes(
    votes: Annotated[int, typer.Argument(metavar="N", help="The least number of votes.", min=2)],
    speaker: AsOption,
    days: DaysOption = 7,
    node_dir: NodeOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Propose another least number of votes; never less than a majority decides."""
    from ledger.governance import votes_change

    _propose(node_dir, speaker, days, as_json, lambda node: votes_change(node, votes))


@consortium_app.command("approve")
@answering
def consortium_approve(
    number: NumberArgument, speaker: AsOption, node_dir: NodeOption = HERE, as_json: JsonOption = False
) -> None:
    """Approve a proposal."""
    from ledger.governance import approve

    with open_node(node_dir) as node:
        motion = approve(node, speaker, number)
    _answer_motion(motion, as_json)


@consortium_app.command("withdraw")
@answering
def consortium_withdraw(
    number: NumberArgument, speaker: AsOption, node_dir: NodeOption = HERE, as_json: JsonOption = False
) -> None:
    """Take back an approval while the proposal is open."""
    from ledger.governance import withdraw

    with open_node(node_dir) as node:
        motion = withdraw(node, speaker, number)
    _answer_motion(motion, as_json)


@consortium_app.command("execute")
@answering
def consortium_execute(
    number: NumberArgument, speaker: AsOption, node_dir: NodeOption = HERE, as_json: JsonOption = False
) -> None:
    """Carry out a proposal that enough departments approved."""
    from ledger.governance import execute

    with open_node(node_dir) as node:
        motion = execute(node, speaker, number)
    _answer_motion(motion, as_json)


@consortium_app.command("successor")
@answering
def consortium_successor(speaker: AsOption, node_dir: NodeOption = HERE, as_json: JsonOption = False) -> None:
    """Create the EvidenceLog that carries on the present one, to be proposed in its place."""
    from ledger.governance import deploy_next_evidence_log

    with open_node(node_dir) as node:
        address = deploy_next_evidence_log(node, speaker)
    if as_json:
        print_json({"evidence_log": address})
    else:
        say(f"Created an EvidenceLog at {address}. It takes no anchor until it is voted in.")
        say(f"Next: yunxi consortium propose set-module EvidenceLog {address} --as {speaker}")


@consortium_app.command("follow")
@answering
def consortium_follow(node_dir: NodeOption = HERE, as_json: JsonOption = False) -> None:
    """Use the EvidenceLog that the consortium voted in, if it carries on the one used so far."""
    from ledger.governance import follow

    with open_node(node_dir) as node:
        address = follow(node)
    if as_json:
        print_json({"evidence_log": address})
    elif address is None:
        say("This node uses the consortium's EvidenceLog already.")
    else:
        say(f"This node now uses the EvidenceLog at {address}; restart what runs, and export the trust file anew.")


@consortium_app.command("config")
@answering
def consortium_config(
    output: Annotated[Path, typer.Option("--out", metavar="DIR", help="A new or empty directory.")],
    engine: Annotated[str, typer.Option(help="Only `besu` (QBFT).")] = "besu",
    validators: Annotated[int, typer.Option(help="How many, at least 4.")] = 4,
    host: Annotated[list[str] | None, typer.Option(help="IP[:PORT] of each validator, in order.")] = None,
    public_key: Annotated[
        list[str] | None, typer.Option(help="A validator's public key, where its operator drew the key.")
    ] = None,
    account: Annotated[list[str] | None, typer.Option(help="An account that may send transactions.")] = None,
    chain_id: Annotated[int | None, typer.Option(help="By default a random one.", min=1)] = None,
    period: Annotated[int, typer.Option(help="Seconds between blocks.")] = 2,
    as_json: JsonOption = False,
) -> None:
    """Write genesis, keys, peers, permissions and a trial's compose file for a Besu QBFT chain."""
    from ledger.chain.consortium.besu import write_config

    if engine != "besu":
        raise CouldNotRun(f"--engine must be besu, not {engine!r}")
    written = write_config(
        output,
        validators=validators,
        chain_id=chain_id,
        period=period,
        hosts=host or (),
        public_keys=public_key or (),
        accounts=account or (),
    )
    if as_json:
        print_json(asdict(written))
    else:
        say(f"Wrote {written.directory}: chain {written.chain_id}, {len(written.validators)} validators.")
        say("Hand each operator its node directory and genesis.json; docs/consortium.md says how to go on.")


@consortium_app.command("accounts")
@answering
def consortium_accounts(node_dir: NodeOption = HERE, as_json: JsonOption = False) -> None:
    """List the accounts that send transactions: what the validators' account permissions must allow."""
    from ledger.chain.consortium.accounts import sending_accounts

    with open_node(node_dir) as node:
        found = sending_accounts(node.connect().consortium)
    if as_json:
        print_json({"accounts": [asdict(account) for account in found]})
        return
    for account in found:
        say(f"{account.address}  {account.role}{f' of {account.department}' if account.department else ''}")
