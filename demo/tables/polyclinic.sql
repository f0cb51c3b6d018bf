CREATE TABLE patients (
    patient_id BIGINT PRIMARY KEY,
    nric TEXT,
    full_name TEXT,
    birth_date DATE,
    sex TEXT,
    postal_code TEXT,
    updated_at TIMESTAMP
);

-- No primary key: as in many a real system, some visits are in it twice.
CREATE TABLE visits (
    visit_id BIGINT,
    patient_id BIGINT REFERENCES patients (patient_id),
    clinic_code TEXT,
    visit_date DATE,
    visit_type TEXT,
    diagnosis_code TEXT,
    systolic_bp INTEGER,
    fee DECIMAL(10, 2),
    created_at TIMESTAMP,
    updated_at TIMESTAMP
);

CREATE INDEX patients_updated_at ON patients (updated_at);
CREATE INDEX visits_updated_at ON visits (updated_at);
