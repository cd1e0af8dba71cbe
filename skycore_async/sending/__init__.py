"""How a message is sent: one path, which `send_sms` and `send_many` share."""
