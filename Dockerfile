# A server of fitted runs, see docs/serving.md:
#   docker build -t lstmkit-serve .
#   docker run --rm -p 8000:8000 -e LSTMKIT_SERVE_TOKEN=… -v ./run:/runs/run:ro lstmkit-serve /runs/run

FROM python:3.12-slim AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends build-essential cmake \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml CMakeLists.txt constraints.txt README.md LICENSE ./
COPY csrc csrc
COPY src src
# Which jobs the image can serve: the extras of pyproject.toml. PyTorch is the build without CUDA.
ARG EXTRAS=serve,forecast,text
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/lstmkit \
    && /opt/lstmkit/bin/pip install --constraint constraints.txt --index-url https://download.pytorch.org/whl/cpu torch \
    && LSTMKIT_NEED_NATIVE=1 /opt/lstmkit/bin/pip install --constraint constraints.txt ".[${EXTRAS}]"

FROM python:3.12-slim
# libgomp: OpenMP of PyTorch and of the extension.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --create-home lstmkit
COPY --from=build /opt/lstmkit /opt/lstmkit
ENV PATH=/opt/lstmkit/bin:$PATH PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1 MPLCONFIGDIR=/tmp
USER lstmkit
WORKDIR /home/lstmkit
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=3)"]
ENTRYPOINT ["lstmkit", "serve", "--host", "0.0.0.0", "--port", "8000"]
CMD ["demo"]
