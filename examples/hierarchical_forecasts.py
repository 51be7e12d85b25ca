"""Forecast shops, regions and a country so that the forecasts add up.

Run: python examples/hierarchical_forecasts.py. It needs lstmkit[hierarchy].
"""

import numpy as np
import pandas as pd
from hierarchicalforecast.core import HierarchicalReconciliation
from hierarchicalforecast.methods import BottomUp, MinTrace
from hierarchicalforecast.utils import aggregate

from lstmkit import Forecaster

COLUMNS = ["unique_id", "ds", "forecast"]
SHOPS = {"Oslo": "south", "Bergen": "west", "Stavanger": "west"}


def main() -> None:
    days, rng = pd.date_range("2024-01-01", periods=140), np.random.default_rng(0)
    week = 50 + 20 * (days.dayofweek >= 4) + 5 * rng.standard_normal(len(days))  # all shops share good and bad days
    sales = pd.concat(
        pd.DataFrame({"country": "Norway", "region": region, "shop": shop, "ds": days, "y": size * week})
        for size, (shop, region) in enumerate(SHOPS.items(), start=1)
    )
    sales["y"] += 10 * rng.standard_normal(len(sales))
    series, sums, tags = aggregate(sales, [["country"], ["country", "region"], ["country", "region", "shop"]])
    forecaster = Forecaster(horizon=7, epochs=4, steps_per_epoch=25, hidden_size=16).fit(series)
    backtest = forecaster.evaluate(series, baselines=()).details.rename(columns={"LSTM (direct)": "forecast"})
    forecasts, errors = forecaster.predict(series)[COLUMNS], backtest[[*COLUMNS, "y"]]
    methods = [BottomUp(), MinTrace("wls_var")]
    result = HierarchicalReconciliation(methods).reconcile(forecasts, S_df=sums, tags=tags, Y_df=errors)
    print(result.groupby("unique_id", sort=False).head(1).round(1).to_string(index=False))
    for column, by_day in result.pivot(index="unique_id", columns="ds").T.groupby(level=0, sort=False):
        difference = by_day[tags["country/region/shop"]].sum(axis=1) - by_day["Norway"]
        print(f"{column}: shops and country differ by up to {difference.abs().max():.2f}")


if __name__ == "__main__":
    main()
