"""Worlds: the whole promise in one process, with time, chance and faults drawn from a seed.

A world has the real client, limiter, ledger and receiver in it.  Around them are a
provider that misbehaves, postbacks that go astray, callers who leave, crashes and power
cuts.  The same seed gives the same world, so that whatever breaks can be seen again.

    events     the events of a world, as values
    drawing    how events are drawn from a seed
    loop       an event loop for asyncio in which time and order are drawn
    life       the event loop of one process, asyncio's or trio's, and its threads
    machine    the disk of a process, and what a crash leaves of it
    provider   the pretend provider, which takes messages, bills them and reports on them
    transport  the connection of a process to the provider
    bulk       `skycore bulk` in a world, without its terminal
    pythons    other versions of Python
    callers    the callers, who send, leave, send again, opt out
    postman    the task that posts postbacks
    backups    the operator's backups of the ledger, of which one is put back
    forgetting what a ledger knew at a backup, and what it has forgotten by it
    limiter    when messages may start
    beside     another process, which takes postbacks in through the inbox
    account    another ledger, and the list of opt-outs that is shared with it
    opening    what a process opens, and what it finds there
    process    one process, from what it opens to what it leaves
    ending     the last process, in which the provider behaves
    world      the processes of a world, one after the other
    notes      what is noted while a world runs
    log        what is logged in it
    rules      what must hold at the end, by the provider's books
    shrinking  a world that breaks a rule, made as short as possible
    mutants    mistakes put into the package, each of which must be found
"""
