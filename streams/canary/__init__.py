"""
The canary: a made-up account whose objection is filed and withdrawn all day.

It measures the whole way, from a record on `objections` to every data store's acknowledgement, as
somebody outside sees it: of the workers it asks nothing.
"""
