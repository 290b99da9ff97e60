"""Calls the weather service with Celery, as if it were a Celery worker.

    python weather_celery.py CITY...
"""

import os
import sys

from celery import Celery

app = Celery(broker=os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2F"), backend="rpc://")

for city in sys.argv[1:]:
    asked = app.send_task("weather.forecast", kwargs={"city": city}, queue="weather")
    try:
        forecast = asked.get(timeout=10)
        print(f"{city}: {forecast['sky']}, {forecast['celsius']} °C")
    except LookupError as error:  # NOT_FOUND in Python's words
        print(f"{city}: {type(error).__name__}: {error}")
