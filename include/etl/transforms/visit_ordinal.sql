-- Numbers each patient's visits of this extraction in the order they happened.
SELECT *, row_number() OVER (PARTITION BY patient_id ORDER BY visit_date, visit_id) AS visit_ordinal
FROM rows
