"""The engines that scripts/bench_search.py measures beside VexFS, each with the settings that its effort is swept over.

An engine is built from a matrix of unit vectors (f32, one a row) in a directory of its own, tells the bytes of what it
keeps, and answers one query at a time with the numbers of the rows that have the largest inner product with it.
"""

from pathlib import Path

import numpy as np

K = 10


def size_of(path):
    """Bytes of a file, or of all files below a directory."""
    path = Path(path)
    return path.stat().st_size if path.is_file() else sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


class Engine:
    """What the engines have in common: `size` in bytes, and how a setting is called."""

    label = "ef={}"

    def bytes(self):
        return self.size


class Numpy(Engine):
    """The exact scan with BLAS: what everything is measured in."""

    name, settings, label = "numpy, exact", [None], ""

    def __init__(self, vectors, work):
        self.matrix, self.size = vectors, vectors.nbytes

    def search(self, query, setting):
        scores = self.matrix @ query
        near = np.argpartition(-scores, K)[:K]
        return near[np.argsort(-scores[near])]


class FaissFlat(Engine):
    name, settings, label = "faiss flat", [None], ""

    def __init__(self, vectors, work):
        import faiss

        faiss.omp_set_num_threads(1)
        self.index, self.size = faiss.IndexFlatIP(vectors.shape[1]), vectors.nbytes
        self.index.add(vectors)

    def search(self, query, setting):
        return self.index.search(query[None], K)[1][0]


class FaissHnsw(Engine):
    name, settings = "faiss HNSW, M=32", [10, 16, 24, 32, 64, 128, 256, 512]

    def __init__(self, vectors, work):
        import faiss

        faiss.omp_set_num_threads(1)
        self.index = faiss.IndexHNSWFlat(vectors.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
        self.index.hnsw.efConstruction = 200
        self.index.add(vectors)
        faiss.write_index(self.index, str(work / "index"))
        self.size = size_of(work / "index")

    def search(self, query, setting):
        self.index.hnsw.efSearch = setting
        return self.index.search(query[None], K)[1][0]


class Hnswlib(Engine):
    name, settings = "hnswlib, M=16", [10, 16, 24, 32, 64, 128, 256, 512]

    def __init__(self, vectors, work):
        import hnswlib

        self.index = hnswlib.Index("ip", vectors.shape[1])
        self.index.init_index(len(vectors), M=16, ef_construction=200, random_seed=1)
        self.index.set_num_threads(1)
        self.index.add_items(vectors)
        self.index.save_index(str(work / "index"))
        self.size = size_of(work / "index")

    def search(self, query, setting):
        self.index.set_ef(setting)
        return self.index.knn_query(query, K, num_threads=1)[0][0]


class Usearch(Engine):
    name, settings = "usearch, f32, mapped, M=16", [16, 32, 64, 128, 256, 512]

    def __init__(self, vectors, work):
        from usearch.index import Index

        index = Index(ndim=vectors.shape[1], metric="ip", dtype="f32", connectivity=16, expansion_add=64)
        index.add(np.arange(len(vectors)), vectors, threads=1)
        index.save(str(work / "index"))
        self.size = size_of(work / "index")
        self.index = Index.restore(str(work / "index"), view=True)

    def search(self, query, setting):
        self.index.expansion_search = setting
        return self.index.search(query, K, threads=1).keys


class Symphony(Engine):
    """SymphonyQG of rabitqlib: at each node the codes of all its neighbours."""

    name, settings, bits = "SymphonyQG, degree 32", [10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512, 1024], 0

    def __init__(self, vectors, work):
        from rabitqlib import SymqgIndex

        self.index = SymqgIndex(vectors.shape[1], 32, "ip", self.bits)
        self.index.build(vectors, 200, 1)
        self.index.save(str(work / "index"))
        self.size = size_of(work / "index")

    def search(self, query, setting):
        return self.index.search(query[None], K, setting, 1)[0][0]


class SymphonyBytes(Symphony):
    name, bits = "SymphonyQG, degree 32, vectors in 8 bits", 8


class Svs(Engine):
    """Intel's Scalable Vector Search: a Vamana graph over locally adaptive codes of 4 bits, ranked again by 8 more."""

    name, settings, label = "SVS Vamana, degree 64, LVQ4x8", [10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512], "window={}"

    def __init__(self, vectors, work):
        import svs

        svs.write_vecs(vectors, str(work / "data.fvecs"))
        data = svs.VectorDataLoader(str(work / "data.fvecs"), svs.DataType.float32, vectors.shape[1])
        codes = svs.LVQLoader(data, primary=4, residual=8, strategy=svs.LVQStrategy.Turbo)
        parameters = svs.VamanaBuildParameters(alpha=0.95, graph_max_degree=64, window_size=128)
        self.index = svs.Vamana.build(parameters, codes, svs.DistanceType.MIP, num_threads=1)
        parts = [work / part for part in ("config", "graph", "codes")]
        self.index.save(*map(str, parts))
        self.size = sum(map(size_of, parts))

    def search(self, query, setting):
        self.index.search_window_size = setting
        return self.index.search(query[None], K)[0][0]


class Scann(Engine):
    """Google's ScaNN: k-means, anisotropic product quantization, the best ranked again by whole vectors."""

    name, label = "ScaNN, 316 leaves", "leaves={0[0]} reorder={0[1]}"
    settings = [(leaves, reorder) for leaves in (4, 8, 16, 32, 64, 128, 316) for reorder in (30, 100, 300)]

    def __init__(self, vectors, work):
        import scann

        built = scann.scann_ops_pybind.builder(vectors, K, "dot_product")
        built = built.tree(num_leaves=316, num_leaves_to_search=16, training_sample_size=len(vectors))
        built = built.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(100).set_n_training_threads(1)
        self.index = built.build()
        (work / "index").mkdir()
        self.index.serialize(str(work / "index"))
        self.size = size_of(work / "index")

    def search(self, query, setting):
        return self.index.search(query, K, leaves_to_search=setting[0], pre_reorder_num_neighbors=setting[1])[0]


class Turbovec(Engine):
    """A scan of codes of 4 bits, the best ranked again by whole vectors."""

    name, settings, label = "turbovec, 4 bits", [10, 20, 40, 100], "rerank={}"

    def __init__(self, vectors, work):
        from turbovec import TurboQuantIndex

        self.vectors, self.index = vectors, TurboQuantIndex(vectors.shape[1], 4)
        self.index.calibrate(vectors[np.random.default_rng(1).choice(len(vectors), 1024, replace=False)])
        self.index.add(vectors)
        self.index.prepare()
        self.index.write(str(work / "index"))
        self.size = size_of(work / "index")

    def search(self, query, setting):
        rows = self.index.search(query[None], setting)[1][0]
        return rows[np.argsort(-(self.vectors[rows] @ query))][:K]


class Lancedb(Engine):
    """LanceDB's table in files, with IVF and HNSW over a byte a dimension."""

    name, label = "LanceDB, IVF_HNSW_SQ", "nprobes={0[0]} ef={0[1]} refine={0[2]}"
    settings = [(4, 32, 1), (8, 64, 2), (16, 128, 2), (32, 256, 3)]

    def __init__(self, vectors, work):
        import lancedb
        import pyarrow

        flat = pyarrow.array(vectors.reshape(-1))
        column = pyarrow.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
        data = pyarrow.table({"row": pyarrow.array(range(len(vectors))), "vector": column})
        self.table = lancedb.connect(str(work / "lance")).create_table("vectors", data)
        self.table.create_index(metric="dot", vector_column_name="vector", index_type="IVF_HNSW_SQ", num_partitions=32, m=20, ef_construction=300)
        self.size = size_of(work / "lance")

    def search(self, query, setting):
        nprobes, ef, refine = setting
        asked = self.table.search(query).distance_type("dot").select(["row", "_distance"]).limit(K).nprobes(nprobes).ef(ef).refine_factor(refine)
        return asked.to_arrow()["row"].to_numpy()


class SqliteVec(Engine):
    """sqlite-vec's `vec0` table, an exact scan of the database."""

    name, settings, label = "sqlite-vec, exact", [None], ""

    def __init__(self, vectors, work):
        import apsw
        import sqlite_vec

        self.database = apsw.Connection(str(work / "index"))
        self.database.enable_load_extension(True)
        sqlite_vec.load(self.database)
        # Unit vectors: the order by distance is the order by inner product.
        self.database.execute(f"create virtual table vectors using vec0(vector float[{vectors.shape[1]}])")
        rows = ((row, vector.tobytes()) for row, vector in enumerate(vectors, 1))
        with self.database:
            self.database.executemany("insert into vectors(rowid, vector) values (?, ?)", rows)
        self.size = size_of(work / "index")

    def search(self, query, setting):
        asked = "select rowid from vectors where vector match ? and k = ? order by distance"
        return np.array([row - 1 for (row,) in self.database.execute(asked, (query.tobytes(), K))])


PEERS = [Numpy, FaissFlat, FaissHnsw, Hnswlib, Usearch, Symphony, SymphonyBytes, Svs, Scann, Turbovec, Lancedb, SqliteVec]
