"""Documents of record on paper: PDF pages in Chinese and English, and QR codes. The same input gives the same bytes."""
