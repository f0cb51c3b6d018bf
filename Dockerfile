# The project on Airflow's official image, with exactly the locked packages that the tests ran with.
FROM apache/airflow:3.3.2-python3.12

# What Microsoft's driver loads beside the image's own libraries.
USER root
RUN apt-get update && apt-get install -y --no-install-recommends libltdl7 libkrb5-3 libgssapi-krb5-2 \
    && rm -rf /var/lib/apt/lists/*
USER airflow

COPY requirements.txt /tmp/requirements.txt
RUN pip install --no-cache-dir --no-deps --only-binary :all: -r /tmp/requirements.txt

# /opt/airflow is AIRFLOW_HOME, so dags/ and plugins/ are where Airflow looks. The image's own user, not root, runs all.
COPY --chown=airflow:0 . /opt/airflow
RUN mkdir -p /opt/airflow/data /opt/airflow/demo/data /opt/airflow/logs

ENV PYTHONPATH=/opt/airflow \
    AIRFLOW__CORE__LOAD_EXAMPLES=False
