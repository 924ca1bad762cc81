# An image of the student without PyTorch, for --mode serve and --mode predict. docs/tutorial.md shows how to use it.
FROM python:3.11-slim AS builder
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /build
RUN python -m venv /opt/venv && python -m venv compilers
COPY requirements.txt requirements-dev.txt ./
RUN compilers/bin/pip install --no-cache-dir -c requirements-dev.txt setuptools ziglang
COPY pyproject.toml setup.py README.md LICENSE ./
COPY distill distill/
RUN compilers/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir dist .
RUN pip install --no-cache-dir -c requirements.txt -c requirements-dev.txt "$(echo dist/*.whl)[predict,serve]"

FROM python:3.11-slim
ENV PATH=/opt/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1
COPY --from=builder /opt/venv /opt/venv
RUN useradd --uid 10001 --create-home distill
USER 10001
WORKDIR /data
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=3s --start-period=10s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=2)"]
ENTRYPOINT ["distill"]
CMD ["--mode", "serve", "--bundle", "/bundle", "--host", "0.0.0.0"]
