"""Calls the weather service with nameko, as if it were a nameko service.

    python weather_nameko.py CITY...
"""

import os
import sys

from nameko.exceptions import RemoteError
from nameko.standalone.rpc import ClusterRpcProxy

config = {"AMQP_URI": os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2F")}

with ClusterRpcProxy(config, timeout=10) as rpc:
    for city in sys.argv[1:]:
        try:
            forecast = rpc.weather.forecast(city=city)
            print(f"{city}: {forecast['sky']}, {forecast['celsius']} °C")
        except RemoteError as error:
            print(f"{city}: {error}")
