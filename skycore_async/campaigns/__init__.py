"""Campaigns: messages in chunks, which any number of workers share and send.

`campaigns` loads campaigns and changes their state, `chunks` decides who may send which messages,
`queue` hands out chunks, `worker` sends them, and `progress` tells how far campaigns are.
"""
