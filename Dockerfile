# A server of fitted runs, see docs/serving.md:
#   docker build -t lstmkit-serve .
#   docker run --rm -p 8000:8000 -e LSTMKIT_SERVE_TOKEN=… -v ./run:/runs/run:ro lstmkit-serve /runs/run

FROM python:3.12-slim AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends build-essential \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml CMakeLists.txt constraints.txt README.md LICENSE ./
COPY csrc csrc
COPY src src
# What the image can serve: extras of pyproject.toml.
ARG EXTRAS=serve,forecast,text
# pip prefers the build of PyTorch without CUDA: its version, 2.13.0+cpu, counts as higher.
RUN python -m venv /opt/lstmkit \
    && LSTMKIT_NEED_NATIVE=1 /opt/lstmkit/bin/pip install --no-cache-dir --constraint constraints.txt \
        --extra-index-url https://download.pytorch.org/whl/cpu ".[${EXTRAS}]"

FROM python:3.12-slim
# libgomp1: OpenMP.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --create-home lstmkit
COPY --from=build /opt/lstmkit /opt/lstmkit
ENV PATH=/opt/lstmkit/bin:$PATH PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1 MPLCONFIGDIR=/tmp
USER lstmkit
WORKDIR /home/lstmkit
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=3)"]
ENTRYPOINT ["lstmkit", "serve", "--host", "0.0.0.0", "--port", "8000"]
CMD ["demo"]
