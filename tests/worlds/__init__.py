"""Worlds: the whole promise in one process, with time, chance and faults drawn from a seed.

A world has the real client, limiter, ledger and receiver in it.  Around them are a
provider that misbehaves, postbacks that go astray, callers who leave, crashes and power
cuts.  The same seed gives the same world, so that whatever breaks can be seen again.

    events     what happens in a world, as values
    drawing    how they are drawn from a seed
    loop       an event loop for asyncio in which time and order are drawn
    life       the event loop of one process, asyncio's or trio's, and its threads
    machine    the disk of a process, and what a crash leaves of it
    provider   who takes messages, bills them and posts what became of them
    transport  the way of a process to the provider
    bulk       `skycore bulk` in a world, without its terminal
    pythons    other versions of Python
    callers    who sends, leaves, sends again, opts out
    postman    who posts what became of them
    limiter    when messages may start
    beside     who takes postbacks in beside the ledger
    account    another ledger, and the list of who may not be sent to that is shared with it
    opening    what a process opens, and what it finds there
    process    what happens in one process, and what it leaves
    ending     how the last process comes to its good end
    world      the processes of a world one after the other, and what is noted of them
    rules      what must hold at the end, by the provider's books
    shrinking  a world that breaks a rule, made as short as can be
    mutants    mistakes put into the package, each of which must be found
"""
