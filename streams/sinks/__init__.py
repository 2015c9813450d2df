"""
Data stores that follow the outputs: what each must do (`sink`), and those that ship with us.

`streams.subscriber` reads Kafka and calls them; a store's client is an extra, imported late.
"""
