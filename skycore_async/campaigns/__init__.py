"""Campaigns: their messages in chunks, which any number of workers share and send.

`campaigns` loads them and changes their state, `chunks` says who may send which messages,
`queue` hands chunks out, `worker` sends them, and `progress` tells how far they are.
"""
