# An image of the student without PyTorch, for --mode serve and --mode predict. docs/tutorial.md shows how to use it.
FROM python:3.11-slim AS builder
# Processors for which the kernels are compiled: x86-64-v3 has AVX2 (Intel since 2013, AMD since 2015) and x86-64-v4 has
# AVX-512; armv8-a is for Arm; native is for processors like the one that builds.
ARG MARCH=x86-64-v3
ENV DISTILL_MARCH=$MARCH DISTILL_CACHE=/opt/kernels PATH=/opt/venv/bin:$PATH
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/venv
WORKDIR /app
COPY requirements-runtime.txt requirements-serve.txt ./
RUN pip install --no-cache-dir -r requirements-serve.txt
COPY distill.py ./
COPY distill distill/
# Create the folder first: if the program creates it, only its owner can read it.
RUN mkdir /opt/kernels && python -c "from distill.runtime.native import library; library()"

FROM python:3.11-slim
ARG MARCH=x86-64-v3
ENV DISTILL_MARCH=$MARCH DISTILL_CACHE=/opt/kernels PATH=/opt/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1
COPY --from=builder /opt /opt
COPY --from=builder /app /app
RUN useradd --uid 10001 --create-home distill
USER 10001
WORKDIR /data
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=3s --start-period=10s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=2)"]
ENTRYPOINT ["python", "/app/distill.py"]
CMD ["--mode", "serve", "--bundle", "/bundle", "--host", "0.0.0.0"]
