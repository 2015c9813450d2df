"""
The fault suite: a real Kafka of one or three brokers, two workers, a steady load, and one fault
after another.

    plan (pure: a seed's sequence of faults)
    scene (Kafka, workers, load), load, proxy
    workers, broker, coordinator, network, clock, disk, importing (what is done to them)
    watch (is all done?), check (pure: what is wrong with the logs), report (tables)
    run (all of it)
"""
